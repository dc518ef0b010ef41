# One build, four targets: chat, tts, access, emulator (`make images`; without a registry `make images-offline`).
# The base image stands here and nowhere else; replace it with --build-arg PYTHON_IMAGE=….
ARG PYTHON_IMAGE=docker.io/library/python:3.13.16-slim-trixie@sha256:70729b46c69b4f1e97c4822c1af3df53a1476cf5ddc6c087c0c10bc3a5678c2f

# ---- what is installed: from locked versions with hashes, into a folder of its own
FROM ${PYTHON_IMAGE} AS build
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends binutils
COPY images/build.txt /build.txt
RUN python3 -m venv /pip && \
    /pip/bin/pip install --quiet --no-cache-dir --require-hashes --only-binary :all: -r /build.txt
COPY images/install.sh /install.sh

FROM build AS build-chat
COPY requirements/chat.txt /lock.txt
RUN ["sh", "/install.sh", "/lock.txt", "/app/lib"]

FROM build AS build-tts
COPY requirements/tts.txt /lock.txt
RUN ["sh", "/install.sh", "/lock.txt", "/app/lib"]

FROM build AS build-access
COPY requirements/access.txt /lock.txt
RUN ["sh", "/install.sh", "/lock.txt", "/app/lib"]

FROM build AS build-emulator
COPY images/emulator.txt /lock.txt
RUN ["sh", "/install.sh", "/lock.txt", "/app/lib"]

# ---- our own code, compiled for the same reason as the packages (images/install.sh)
FROM build AS code
COPY shared /app/shared
COPY services /app/services
COPY local /app/local
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /app

# ---- what runs: no package manager of ours, no shell needed, nothing that has to be written
FROM ${PYTHON_IMAGE} AS run
# Given by images/names.sh.
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Parley" \
      org.opencontainers.image.description="An assistant that talks, as services on NATS." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"
ENV PYTHONPATH=/app:/app/lib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HTTP_HOST=0.0.0.0 \
    HTTP_PORT=8080
WORKDIR /app
USER 10001:10001
EXPOSE 8080
# Used by docker and podman; Kubernetes has probes of its own.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python3", "/app/healthy.py", "/readyz"]
COPY images/healthy.py /app/healthy.py

FROM run AS chat
LABEL org.opencontainers.image.title="Parley chat"
COPY --from=build-chat /app/lib /app/lib
COPY --from=code /app/shared /app/shared
COPY --from=code /app/services/__init__.py /app/services/__init__.py
COPY --from=code /app/services/chat /app/services/chat
COPY docs/asyncapi.json docs/asyncapi.html /app/docs/
ENTRYPOINT ["python3", "-m", "services.chat"]

FROM run AS tts
LABEL org.opencontainers.image.title="Parley tts"
COPY --from=build-tts /app/lib /app/lib
COPY --from=code /app/shared /app/shared
COPY --from=code /app/services/__init__.py /app/services/__init__.py
COPY --from=code /app/services/tts /app/services/tts
COPY docs/asyncapi.json docs/asyncapi.html /app/docs/
ENTRYPOINT ["python3", "-m", "services.tts"]

FROM run AS access
LABEL org.opencontainers.image.title="Parley access"
COPY --from=build-access /app/lib /app/lib
COPY --from=code /app/shared /app/shared
COPY --from=code /app/services/__init__.py /app/services/__init__.py
COPY --from=code /app/services/access /app/services/access
COPY docs/asyncapi.json docs/asyncapi.html /app/docs/
ENTRYPOINT ["python3", "-m", "services.access"]

FROM run AS emulator
LABEL org.opencontainers.image.title="Parley emulator of the provider"
COPY --from=build-emulator /app/lib /app/lib
COPY --from=code /app/local /app/local
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python3", "/app/healthy.py", "/healthz"]
ENTRYPOINT ["python3", "-m", "local.together", "--host", "0.0.0.0", "--port", "8080"]
