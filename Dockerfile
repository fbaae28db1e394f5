# One image for every role of a mesh; which role a container plays is its command.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
# All that the lock names is fetched and checked against its hash; of it only what the services need
# is installed below.
COPY requirements.lock ./
RUN python -m pip download -q --require-hashes --no-deps -r requirements.lock -d /wheels
COPY pyproject.toml README.md LICENSE ./
COPY clients/python clients/python
COPY clients/web/dist clients/web/dist
COPY services services
RUN python -m pip wheel -q --no-index --find-links /wheels --no-deps -w /wheels ./clients/python . \
 && python -m venv /opt/tallymesh \
 && /opt/tallymesh/bin/pip install -q --no-index --find-links /wheels tallymesh \
 && /opt/tallymesh/bin/pip install -q --no-index --find-links /wheels --no-deps \
    passagemath-primesieve-primecount

FROM python:3.11-slim-bookworm
COPY --from=build /opt/tallymesh /opt/tallymesh
RUN useradd --system --uid 10001 tallymesh \
 && install -d -o tallymesh -g tallymesh /edge
ENV PATH=/opt/tallymesh/bin:$PATH
USER tallymesh
ENTRYPOINT ["tallymesh"]
CMD ["--help"]
