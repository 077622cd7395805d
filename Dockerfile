# Sidegate as an image:  docker build --tag sidegate .
#
# The base is pinned by its tag, so that rebuilding takes Debian's and Python's fixes. To pin every byte, give its digest
# (docker buildx imagetools inspect python:3.12-slim-bookworm):
#   docker build --build-arg BASE=python:3.12-slim-bookworm@sha256:… .
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# The environment that is shipped has no pip: the one of this stage fills it from outside.
RUN python -m venv --without-pip /opt/sidegate
COPY requirements.txt requirements-build.txt ./
RUN pip --python /opt/sidegate/bin/python install --require-hashes --only-binary :all: -r requirements.txt \
 && pip install --require-hashes --only-binary :all: -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
 && pip --python /opt/sidegate/bin/python install --no-deps --no-index /wheel/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="Sidegate" \
      org.opencontainers.image.description="The guard in front of n8n and LLM webhooks" \
      org.opencontainers.image.licenses="Apache-2.0"
# Nothing is written when it runs: the root file system may be read-only.
ENV PATH=/opt/sidegate/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN groupadd --gid 10001 sidegate \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin sidegate \
 && PIP_ROOT_USER_ACTION=ignore python -m pip uninstall --quiet --yes pip
COPY --from=build /opt/sidegate /opt/sidegate
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# The ops listener as it is by default; whoever moves it (ops.port) replaces this check.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
  CMD ["python", "-IS", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9090, timeout=2); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["sidegate"]
CMD ["serve"]
