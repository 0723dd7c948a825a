# syntax=docker/dockerfile:1

FROM python:3.13-slim AS build
WORKDIR /build
COPY requirements/base.txt requirements/docs.txt requirements/redis.txt ./
# Install only locked wheels, so that nothing is compiled on any architecture. The lock files are
# complete, and --no-deps keeps pip from requiring the packages that requirements/overrides.txt leaves out.
#
# The last step removes files that a running service does not need: tests, C sources, type stubs,
# source maps, and all of Swagger UI except the two files that /docs uses.
RUN python -m pip install --no-cache-dir --no-deps --only-binary=:all: --require-hashes \
        --prefix=/install --requirement=base.txt --requirement=docs.txt --requirement=redis.txt \
    && find /install -depth \( \
        -path '*/swagger_ui/static/*' ! -name swagger-ui-bundle.js ! -name swagger-ui.css \
        -o -type d -regex '.*-packages/\(.*/\)?tests?' \
        -o -type f -regex '.*\.\(c\|h\|pyi\|pyx\|pxd\|map\)' \
    \) -exec rm -r {} +
COPY scrapper /app/scrapper
COPY middlewares /app/middlewares
# The root file system is read-only at run time, so bytecode is compiled now. A new volume gets the
# owner and mode of /data, so the container may run as any user.
RUN python -m compileall -q /app \
    && install --directory --owner=10001 --group=10001 --mode=0777 /data /data/instaloader

FROM python:3.13-slim AS slim
ARG VERSION=unknown
LABEL org.opencontainers.image.title="instagram-scrapper" \
    org.opencontainers.image.description="Downloads Instagram posts by URL" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}"
# Saves memory: see docs/deploy.md.
ENV PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 \
    MALLOC_MMAP_THRESHOLD_=1048576 \
    MEDIA_ROOT=/data/instaloader
COPY --from=build /install /usr/local
COPY --from=build /app /app
COPY --from=build /data /data
COPY LICENSE /app/
WORKDIR /app
# The base image has no bytecode of the standard library. Each start and each health check would compile it.
RUN PYTHONDONTWRITEBYTECODE='' python -c "import http.client, scrapper.commands.serve, scrapper.commands.worker"
USER 10001:10001
VOLUME ["/data"]
EXPOSE 5633
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", \
    "import http.client as h, os, ssl, sys; \
    at = {'host': '127.0.0.1', 'port': int(os.environ.get('PORT') or 5633), 'timeout': 4}; \
    c = h.HTTPSConnection(**at, context=ssl._create_unverified_context()) \
    if os.environ.get('TLS_CERT_FILE') else h.HTTPConnection(**at); \
    c.request('GET', '/health'); \
    sys.exit(c.getresponse().status != 200)"]
# Docker has no option for the umask.
ENTRYPOINT ["sh", "-c", "umask \"${UMASK:-022}\" && exec python -m scrapper \"$@\"", "sh"]

# One package of the plugin notify has no wheel for arm/v7, so the image for arm/v7 omits the plugin.
FROM build AS plugins
ARG TARGETARCH
COPY requirements/notify.txt requirements/s3.txt ./
RUN if [ "$TARGETARCH" = arm ]; then : >notify.txt; fi \
    && python -m pip install --no-cache-dir --no-deps --only-binary=:all: --require-hashes \
        --prefix=/plugins --requirement=s3.txt --requirement=notify.txt

# The image with ffmpeg and the plugins' packages: docker build --target full .
FROM slim AS full
USER 0:0
# ffmpeg is not pinned, so that a rebuild gets Debian's fixes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY --from=plugins /plugins /usr/local
USER 10001:10001

# The default target.
FROM slim
