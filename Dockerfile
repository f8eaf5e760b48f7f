# Makes a small image that runs as nobody in particular:
#
#   docker build -t pageroom .
#   docker run -p 127.0.0.1:3001:3001 -v pageroom:/data -e JWT_SECRET="$(openssl rand -hex 32)" pageroom
#
# Without a secret it refuses to start, because it listens on all addresses; `-e PAGEROOM_AUTH=open` lets everybody edit.

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --profile release-lto --locked --bin pageroom && \
    strip -o /pageroom target/release-lto/pageroom && \
    mkdir /data

# glibc and nothing else: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /pageroom /usr/local/bin/pageroom
COPY --from=build --chown=65532:65532 /data /data
ENV HOST=0.0.0.0 \
    PORT=3001 \
    DATABASE_URL=sqlite:///data/pageroom.db
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 3001
# SIGTERM stores what is unwritten and asks clients to come back.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["pageroom", "health"]
ENTRYPOINT ["pageroom"]
CMD ["serve"]
