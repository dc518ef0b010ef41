#!/bin/sh
# make.sh FOLDER              new random secrets for compose, and for `kubectl create secret …`.
# make.sh --app NAME FOLDER   one more application in a folder made before: a user and an inbox
#                             prefix (_INBOX_NAME) of its own. `--app client` only writes apps.conf
#                             anew, as after an upgrade. The server reads it when it starts.
# make.sh --rotate NAME FOLDER  a new password for chat, tts, access or operator, beside the old one:
#                             it is that of the other one of two logins (chat and chat-2), which the
#                             file login_NAME names. Both are let in until:
# make.sh --retire NAME FOLDER  the old password is nobody's. (Twice is harmless.)
# make.sh --rotate store FOLDER  a new access key and secret key of the store for tts; then
#                             deploy/store/setup.py makes its user, and --retire removes the old one.
# make.sh --issuer FOLDER     a new key of the access service for NATS, which has to be started anew.
# The containers' users (10001, 1000) must be able to read the files, so the folder keeps others out.
set -eu
umask 022
usage='usage: make.sh [--app NAME | --rotate NAME | --retire NAME | --issuer] FOLDER'
app= rotated= retired= issuer=
case ${1:-} in
  --app) app=${2:?$usage} && shift 2 ;;
  --rotate) rotated=${2:?$usage} && shift 2 ;;
  --retire) retired=${2:?$usage} && shift 2 ;;
  --issuer) issuer=new && shift ;;
esac
folder=${1:?$usage}

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; echo; }
# Written beside and moved: the files themselves are read-only.
put() { cat >"$folder/.new" && chmod 0444 "$folder/.new" && mv -f "$folder/.new" "$folder/$1"; }

# Any NATS client works as `client` as it is: it alone keeps the usual inboxes.
inbox_of() { if [ "$1" = client ]; then echo _INBOX; else echo "_INBOX_$1"; fi; }

apps() {
  echo '# The applications, a user each; `deploy/secrets/make.sh --app NAME` adds one.'
  echo 'include ../application.conf'
  echo 'users: ['
  for file in "$folder"/nats_*; do
    user=${file##*/nats_}
    case $user in chat | tts | operator | access) continue ;; esac
    cat <<END
  {
    user: $user, password: "$(cat "$file")"
    permissions {
      publish { allow: \$APPLICATION_ASKS }
      subscribe { allow: ["chat.delta", "chat.delta.*", "tts.audio", "tts.audio.*", "$(inbox_of "$user").>"] }
    }
  }
END
  done
  echo ']'
}

# Key and issuer of conversation tokens (docs/security.md): only a program that knows nkeys makes one.
PYTHON=${PYTHON:-$(dirname "$0")/../../.venv/bin/python}
seed() {  # as `python -m services.access seed`, without what a whole service loads
  PYTHONPATH=$(dirname "$0")/../.. "$PYTHON" -c 'import os
from services.access.nkey import SigningKey, account_seed
seed = account_seed(os.urandom(32))
print(f"{seed}  # {SigningKey.from_seed(seed).public}")'
}

access() {
  [ -e "$folder/nats_access" ] || random | put nats_access
  for name in access_issuer_seed access_keys; do
    [ -s "$folder/$name" ] && continue
    if ! made=$(seed 2>/dev/null); then
      echo "make.sh: nobody is let in by a token: \`make setup\`, then make.sh --app client $folder" >&2
    fi
    { [ -z "$made" ] || echo "$made"; } | put "$name"
  done
  grep -q '^ACCESS_PASSWORD' "$folder/passwords.conf" ||
    { cat "$folder/passwords.conf"; echo "ACCESS_PASSWORD: \"$(cat "$folder/nats_access")\""; } | put passwords.conf
}

# The login that a service has now, and the other one of its two.
login_of() { cat "$folder/login_$1" 2>/dev/null || echo "$1"; }
other_of() { if [ "$(login_of "$1")" = "$1" ]; then echo "$1-2"; else echo "$1"; fi; }
variable() { echo "$1_PASSWORD" | tr 'a-z-' 'A-Z_'; }  # of a login, in passwords.conf
# password LOGIN [PASSWORD]: it has this one, or none.
password() {
  { grep -v "^$(variable "$1"):" "$folder/passwords.conf" || true
    [ -z "${2:-}" ] || echo "$(variable "$1"): \"$2\""; } | put passwords.conf
}

a_service() {
  case $1 in
    chat | tts | access | operator) ;;
    *) echo "make.sh: only chat, tts, access and operator have a second login, not: $1" >&2; exit 1 ;;
  esac
  [ -e "$folder/nats_$1" ] || { echo "make.sh: $folder has no secrets yet: $usage" >&2; exit 1; }
}

rotate() {
  old=$(login_of "$1") new=$(other_of "$1")
  if [ -e "$folder/old_login_$1" ]; then
    echo "make.sh: $1 has two logins already: make.sh --retire $1 $folder" >&2
    exit 1
  fi
  random | put "nats_$1"
  password "$new" "$(cat "$folder/nats_$1")"
  echo "$old" | put "old_login_$1"
  echo "$new" | put "login_$1"
  echo "$1: NATS_USER=$new with the new nats_$1; $old is let in, too, until make.sh --retire $1"
}

# The first login must have some password: then one that nobody has seen.
retire() {
  now=$(login_of "$1") old=$(other_of "$1")
  if [ "$old" = "$1" ]; then password "$old" "$(random)"; else password "$old"; fi
  rm -f "$folder/old_login_$1"
  echo "$1: let in as $now with nats_$1, and not as $old"
}

# Those with a login, by name, the second one of a service too: everybody else shows a token. The
# server reads this file when it starts only, and refuses a reload after which it says anything else.
callout() {
  users=$(for file in "$folder"/nats_*; do
    user=${file##*/nats_}
    printf '%s, ' "$user"
    case $user in chat | tts | operator | access) printf '%s, ' "$user-2" ;; esac
  done)
  issuer=$(sed -n 's/.*# //p' "$folder/access_issuer_seed")
  if [ -z "$issuer" ]; then
    echo '# Nobody is let in by a token.'
  else
    cat <<END
# Whoever has no login shows a token, and the access service decides.
authorization {
  auth_callout {
    issuer: $issuer
    account: AUTH
    auth_users: [${users%, }]
  }
}
END
  fi | put callout.conf
}

if [ -n "$app" ]; then
  case $app in
    *[!a-z0-9-]* | -* | chat | tts | operator | access)
      echo "make.sh: an application's name is of a-z, 0-9 and -, and no service's: $app" >&2
      exit 1
      ;;
  esac
  [ -e "$folder/nats_client" ] || { echo "make.sh: $folder has no secrets yet: $usage" >&2; exit 1; }
  [ -e "$folder/nats_$app" ] || random | put "nats_$app"
  # An application's password stood in passwords.conf once.
  grep -v '^CLIENT_PASSWORD' "$folder/passwords.conf" | put passwords.conf
  apps | put apps.conf
  access
  callout
  exit
fi

if [ "$rotated" = store ]; then
  old=$(cat "$folder/store_access_key")
  if [ "$old" = parley-tts ]; then new=parley-tts-2; else new=parley-tts; fi
  echo "$new" | put store_access_key
  random | put store_secret_key
  echo "store: $new with the new store_secret_key; then setup.py, and setup.py --retire $old"
  exit
fi

if [ -n "$rotated$retired$issuer" ]; then
  [ -z "$rotated" ] || { a_service "$rotated" && rotate "$rotated"; }
  [ -z "$retired" ] || { a_service "$retired" && retire "$retired"; }
  [ -z "$issuer" ] || { rm -f "$folder/access_issuer_seed" && access && callout; }
  exit
fi

mkdir -p "$folder"
chmod 0700 "$folder"
for user in chat tts operator client; do random | put "nats_$user"; done
for user in chat tts operator; do
  printf '%s_PASSWORD: "%s"\n' "$(echo "$user" | tr '[:lower:]' '[:upper:]')" "$(cat "$folder/nats_$user")"
done | put passwords.conf
apps | put apps.conf
access
callout
echo parley-root | put store_root_user
echo parley-tts | put store_access_key
for name in store_root_password store_secret_key; do random | put "$name"; done
[ -e "$folder/together_api_key" ] || echo 'put the key here' | put together_api_key
