# The names of the images, for the scripts beside this file.
VERSION=${VERSION:-0.1.0}
image_of() { echo "localhost/parley-$1:$VERSION"; }
PYTHON_STANDIN=localhost/parley-standin-python:1
NATS_STANDIN=localhost/parley-standin-nats:1
STORE_STANDIN=localhost/parley-standin-store:1
