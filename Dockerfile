# docker build -t genekb-cellmodel . && docker run --rm --network none -v "$PWD/out:/work" genekb-cellmodel
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY genekb genekb
COPY cellmodel cellmodel
COPY cli cli
COPY artifacts/demo_genes.tsv artifacts/
ARG TORCH_INDEX=""
RUN python -m venv /opt/env \
    && /opt/env/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c constraints.txt torch \
    && /opt/env/bin/pip install --no-cache-dir -c constraints.txt ".[demo,plot]"

FROM python:3.12-slim
COPY --from=build /opt/env /opt/env
RUN useradd --create-home --uid 1000 cells && mkdir /work && chown cells /work
ENV PATH=/opt/env/bin:$PATH HF_HUB_OFFLINE=1 GENEKB_HOME=/work/stores
USER 1000
WORKDIR /work
CMD ["cellmodel", "demo", "--output", "demo", "--overwrite"]
