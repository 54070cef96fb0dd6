ARG PYTHON=python:3.13-slim

# What is built stays in this stage: the image has what runs, without pip's leavings or a compiler.
FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/pinqueue
# What PinQueue needs comes first: it changes less often, and this layer is kept until then.
COPY pyproject.toml ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
      > requirements.txt \
    && pip --python /opt/pinqueue/bin/python install --no-cache-dir -r requirements.txt
COPY README.md LICENSE ./
COPY alembic alembic
COPY pinqueue pinqueue
RUN pip --python /opt/pinqueue/bin/python install --no-cache-dir --no-deps .

FROM ${PYTHON}
# The folders are here so that a new volume in their place belongs to this user.
RUN useradd --uid 10001 --home-dir /var/lib/pinqueue --shell /usr/sbin/nologin pinqueue \
    && install -d -o pinqueue -g pinqueue -m 700 /var/lib/pinqueue \
    && install -d -o pinqueue -g pinqueue /run/simulator
COPY --from=build /opt/pinqueue /opt/pinqueue
ENV PATH=/opt/pinqueue/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /var/lib/pinqueue
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["pinqueue"]
CMD ["web", "--host", "0.0.0.0"]
