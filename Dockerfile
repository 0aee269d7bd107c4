# `receive` as Cloud Run functions serves it: the framework's command over the files that are uploaded there.
# `docker run -e FUNCTION_TARGET=consume …` serves `consume`.
FROM python:3.13-slim
WORKDIR /srv
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY . ./
RUN python -m compileall -q .
USER 65534
ENV FUNCTION_TARGET=receive PORT=8080
EXPOSE 8080
CMD ["functions-framework"]
