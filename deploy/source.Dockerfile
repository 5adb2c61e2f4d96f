# Compiles the binary against Debian 12's C library, for machines whose own is newer (scripts/images --from-source).
FROM rust:1-bookworm

WORKDIR /src
COPY . .
RUN cargo build --release --locked --package meshos --bin meshos \
    && install -m 755 target/release/meshos /usr/local/bin/meshos \
    && rm -rf target
