# Stands in for the object store's image where there is no registry: the server, and curl.
ARG BASE
FROM ${BASE}
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends curl
COPY minio /usr/bin/minio
USER 1000:1000
ENTRYPOINT ["minio"]
