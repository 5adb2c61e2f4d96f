# Stands for `python:3`: the interpreter of Debian.
FROM debian:bookworm-slim

RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /srv
CMD ["python3"]
