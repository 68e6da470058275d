#!/bin/sh
# Run a command with secrets read from files: where NAME_FILE is set, NAME becomes what that file holds. So neither
# `docker inspect` nor docker-compose.yml shows them, and a health check gets them the same way as its service.
set -eu
for name in PGPASSWORD PREFECT_API_AUTH_STRING PREFECT_SERVER_API_AUTH_STRING AWS_SECRET_ACCESS_KEY STORE_READER_KEY \
    SAEC_API_KEY; do
    eval "file=\${${name}_FILE:-}"
    if [ -n "$file" ]; then
        secret=$(cat "$file")
        export "$name=$secret"
    fi
done
exec "$@"
