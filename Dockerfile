# The image: Node, the program, and nothing else. No shell, no package manager, no node_modules.
#
# Both stages are pinned by tag: pin them by digest where your registry mirror lets you look one up.
# The bundle is plain JavaScript, so one build serves every platform.
FROM --platform=$BUILDPLATFORM docker.io/library/node:24.21.0-bookworm-slim AS build

WORKDIR /build

# Only what the bundle is made of and made with: the lock file names each of these packages with its hash. Scripts of
# packages don't run, but for esbuild's own check of its binary.
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

COPY build.ts ./
COPY src ./src
COPY docs/openapi.json ./docs/
RUN npm run --silent build

# Times and modes are part of a layer's digest: the same sources make the same layer.
ARG SOURCE_DATE_EPOCH=0
RUN mkdir deliveries && chmod 0755 dist deliveries && chmod 0644 dist/*.js \
      && touch --date="@${SOURCE_DATE_EPOCH}" dist dist/*.js deliveries

# Distroless: the same Node line on Debian 12 with CA certificates, as user 65532. It has no shell to break into.
FROM gcr.io/distroless/nodejs24-debian12:nonroot

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sprayproxy" \
      org.opencontainers.image.description="One GitHub App webhook URL in front of many clusters" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# getaddrinfo runs on libuv's pool, four threads that file reads share: with them full, lookups waited for 6.4 s.
# V8 sizes its heap for a machine: with 16 MiB semi-spaces pushes at full speed peak at 152 MiB instead of 177, at the same
# CPU; with 8 at 139 (and 1 to 3 % more CPU), with 2 at 126 (25 % more). The rest of 384 MiB is for bodies and sockets.
# Memory above the threshold goes back to the system when it is freed. Left to itself, glibc raises the threshold to 32 MiB once a
# large body has been freed: 64 of 24.9 MiB at once, kept in PostgreSQL, then peak at 430 MiB instead of 345.
ENV NODE_ENV=production \
    MALLOC_MMAP_THRESHOLD_=131072 \
    NODE_OPTIONS="--max-semi-space-size=16 --max-old-space-size=192" \
    UV_THREADPOOL_SIZE=16

WORKDIR /app
# The program, in parts that are loaded when they are needed, and the worker that SQLite runs in.
COPY --from=build /build/dist ./

# Where --store sqlite:/var/lib/sprayproxy/deliveries.db puts its file. A new named volume takes its owner over. Not declared
# as a VOLUME: direct mode would get one too, and lose it.
COPY --from=build --chown=65532:65532 /build/deliveries /var/lib/sprayproxy

USER 65532:65532
EXPOSE 8080 9090

# `args: [server]`, flags alone and nothing at all start the server. Node is process 1 and gets SIGTERM itself.
ENTRYPOINT ["/nodejs/bin/node", "/app/sprayproxy.js"]
