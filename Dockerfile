# syntax=docker/dockerfile:1
# One image for every Python service of docker-compose.yml; the command decides which one it is.
#
# 1. What is installed is deployments/requirements.lock, with hashes, and this project; nothing else is resolved.
# 2. ffmpeg, ffprobe and Shaka Packager are in those wheels, in the versions that outputs are pinned to.
# 3. It runs as an unprivileged user, from a root file system that it need not write to.

# The tests run on 3.11.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1
RUN python -m venv /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH
# First what changes seldom: a change of the code leaves this layer alone.
COPY deployments/requirements.lock /tmp/requirements.lock
RUN python -m pip install --no-deps --require-hashes --only-binary :all: -r /tmp/requirements.lock
COPY . /src
# What can't be compiled is some packages' templates.
RUN python -m pip install --no-deps --no-build-isolation /src \
    && { python -m compileall -q -j 0 /opt/headrace/lib || true; }
# A build that lost a part must fail here, not at the first order.
RUN python -c "import dashboard, flows.submit, gateway, headrace.stack.registration as r, prefect_redis; r.find_description()" \
    && prefect version >/dev/null

# The second stage leaves the sources and pip's traces behind.
FROM ${PYTHON}
RUN useradd --system --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin headrace \
    && install --directory --owner headrace --group headrace --mode 0700 /var/lib/headrace
COPY --from=build /opt/headrace /opt/headrace
# As in a clone: `streamlit run dashboard/app.py`, whatever the Python's version.
RUN mkdir /srv/headrace \
    && ln -s "$(/opt/headrace/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dashboard" /srv/headrace/dashboard
ENV PATH=/opt/headrace/bin:$PATH \
    HOME=/tmp \
    PREFECT_HOME=/tmp \
    HEADRACE_HOME=/var/lib/headrace \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv/headrace
USER headrace
CMD ["headrace", "--help"]
