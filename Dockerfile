# Two stages: the second has no compiler, no pip cache and no root.
FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY protocol protocol
COPY policy policy
COPY proxy proxy
RUN python -m venv /opt/pghold \
    && /opt/pghold/bin/pip install --no-cache-dir -r requirements.lock \
    && /opt/pghold/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/pghold pghold
COPY --from=build /opt/pghold /opt/pghold
ENV PATH=/opt/pghold/bin:$PATH PGHOLD_DATA_DIR=/var/lib/pghold PGHOLD_LISTEN=0.0.0.0:6432 PGHOLD_CONSOLE=127.0.0.1:8432
USER pghold
VOLUME /var/lib/pghold
EXPOSE 6432
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8432/healthz', timeout=2)"]
ENTRYPOINT ["pghold"]
CMD ["run"]
