#!/bin/sh
# Run the model store with two identities in a file that only its user can read: one that writes, for the pipeline, and
# one that can only read and list the bucket `models`, for the model server. The keys are hexadecimal, as
# docker-compose.yml has them made, so that they need no quoting here.
set -eu
umask 077
cat > "${STORE_IDENTITIES:=/tmp/identities.json}" <<END
{"identities": [
  {"name": "pipeline", "actions": ["Admin"],
   "credentials": [{"accessKey": "$AWS_ACCESS_KEY_ID", "secretKey": "$AWS_SECRET_ACCESS_KEY"}]},
  {"name": "serving", "actions": ["Read:models", "List:models"],
   "credentials": [{"accessKey": "serving", "secretKey": "$STORE_READER_KEY"}]}
]}
END
exec "$@"
