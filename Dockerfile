# Weir, nobody's root, with nothing to write to but a state folder. `make image` builds it without a Docker engine;
# with one: docker build -t weir .
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# For a build without an index: --no-index --find-links FOLDER
ARG PIP_OPTIONS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/build.txt requirements/run.txt requirements/
RUN python3 -m venv /build \
 && /build/bin/pip install -q ${PIP_OPTIONS} --require-hashes -r requirements/build.txt \
 && python3 -m venv --without-pip /opt/weir \
 && /build/bin/pip --python /opt/weir/bin/python install -q ${PIP_OPTIONS} --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY proxy proxy
COPY plugins plugins
RUN /build/bin/pip wheel -q --no-deps --no-build-isolation -w dist . \
 && /build/bin/pip --python /opt/weir/bin/python install -q --no-deps --no-index dist/*.whl \
 && /opt/weir/bin/python -m compileall -q /opt/weir \
 && mkdir /state

FROM ${BASE}
LABEL org.opencontainers.image.title="Weir" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/weir /opt/weir
COPY --from=build --chown=65532:65532 /state /var/lib/weir
ENV PATH=/opt/weir/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 WEIR_STATE_DIR=/var/lib/weir
# A weir.yaml that is mounted here is found.
WORKDIR /etc/weir
USER 65532:65532
EXPOSE 3006 3007
# The management port where it is by default.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/opt/weir/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3007/healthz', timeout=2)"]
ENTRYPOINT ["/opt/weir/bin/weir"]
CMD ["serve"]
