# etcd from Debian, so that one base image is all that has to be pulled.
FROM debian:bookworm-slim

RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends etcd-server etcd-client \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -m 700 -o etcd -g etcd /var/lib/etcd

USER etcd
ENV ETCDCTL_API=3
ENTRYPOINT ["etcd"]
