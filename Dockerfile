# gantry with the codecs that it starts as child processes. The binary is CGO-free; everything else is
# Debian's. No secret goes in: see docker-compose.yml for how they come.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY internal internal
COPY migrations migrations
COPY pipelines pipelines
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /gantry ./cmd/gantry

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates dcmtk ffmpeg libopenjp2-tools \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 gantry \
 && useradd --uid 10001 --gid gantry --home-dir /var/lib/gantry --shell /usr/sbin/nologin gantry \
 && install -d -o gantry -g gantry -m 0700 /var/lib/gantry \
 && install -d -o gantry -g gantry -m 0755 /data/in /data/out
COPY --from=build /gantry /usr/local/bin/gantry
COPY deploy/gantry.yaml /etc/gantry/gantry.yaml
COPY deploy/pipelines /etc/gantry/pipelines
USER 10001:10001
WORKDIR /var/lib/gantry
ENV GANTRY_CONFIG=/etc/gantry/gantry.yaml
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["gantry", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["gantry"]
CMD ["serve"]
