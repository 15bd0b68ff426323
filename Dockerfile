# The board and the commands that need no torch. Evaluating checkpoints: --build-arg EXTRAS=board,postgres,hf
FROM python:3.13-slim AS build
ARG EXTRAS=board,postgres
WORKDIR /source
COPY . .
RUN python -m venv /opt/mipo-eval \
    && /opt/mipo-eval/bin/pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"

FROM python:3.13-slim
COPY --from=build /opt/mipo-eval /opt/mipo-eval
ENV PATH=/opt/mipo-eval/bin:$PATH
RUN useradd --create-home --uid 1000 mipo && mkdir /work && chown mipo /work
USER mipo
WORKDIR /work
EXPOSE 8501
ENTRYPOINT ["mipo-eval"]
CMD ["board", "--", "--server.address", "0.0.0.0", "--server.headless", "true"]
