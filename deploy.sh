#!/usr/bin/env bash
# Takes a Google Cloud project to a running flowhook, again and again, and away from it. `./deploy.sh --help`.
#
# What should exist is a table, in the functions right below the settings. What exists is read once per kind of
# resource. What differs is changed. Nothing is read back from what this script has printed or kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly APIS="artifactregistry cloudbuild cloudfunctions iam logging pubsub run secretmanager"
readonly OLDEST_GCLOUD=500
readonly RUNTIME=python313
readonly SECRET_PATH=/secrets/webhook/secret
# Seconds: a push that is not answered by then counts as failed; what fails is pushed again after 10 to 600.
readonly ACK_MARGIN=20 MIN_RETRY=10s MAX_RETRY=600s
# Of 5 to 100: with these delays 15 hours go by before an event is a dead letter.
readonly MAX_ATTEMPTS=100
readonly BUILD_ROLES="roles/artifactregistry.writer roles/logging.logWriter roles/storage.objectViewer"
readonly DOCTOR=flowhook.doctor DOCTOR_FILTER='attributes.entity_key = "flowhook/doctor"'
# What flowhook sets itself, and what Google reserves: not for .env.deploy.
readonly OURS="WEBHOOK_SECRET WEBHOOK_SECRET_FILE GOOGLE_CLOUD_PROJECT PUBSUB_TOPIC REJECTED_TOPIC PUBSUB_EMULATOR_HOST \
PUSH_AUDIENCE PUSH_SERVICE_ACCOUNT FUNCTION_TARGET FUNCTION_SIGNATURE_TYPE K_SERVICE K_REVISION K_CONFIGURATION PORT"

COMMAND=deploy PROJECT='' REGION=europe-west1 NAME=flowhook DELIVERY=pubsub
MIN_INSTANCES=0 MAX_INSTANCES=10 NOTIFICATION_CHANNEL=''
SECRET_FILE='' WEAK='' DRY='' YES='' PRUNE='' ALL='' FINISH=''
PASSED_ON=()

# --- what should exist -------------------------------------------------------------------------------------

pubsub() { [[ $DELIVERY == pubsub ]]; }
account() { printf '%s-%s@%s.iam.gserviceaccount.com' "$NAME" "$1" "$PROJECT"; }

# Service accounts: one for each that acts.
accounts() {
    account build; echo
    account receive; echo
    if pubsub; then account consume; echo; account push; echo; fi
}

# Topics; behind each is a subscription of the same name that keeps what arrives.
topics() {
    echo "$NAME-rejected"
    if pubsub; then printf '%s\n' "$NAME-events" "$NAME-dead-letters"; fi
}

# NAME|TOPIC|ENDPOINT|ACCOUNT|AUDIENCE|FILTER|DEADLINE|MIN RETRY|MAX RETRY|DEAD LETTERS|ATTEMPTS|EXPIRY|LABEL, as
# FIELDS reads them; none expires.
subscriptions() {
    local topic name path filter
    for topic in $(topics); do
        echo "$topic|$topic|||||60||||||$NAME"
    done
    if pubsub; then
        while IFS='|' read -r name path filter; do
            echo "$name|$NAME-events|$CONSUME_URL$path|$(account push)|$CONSUME_URL|$filter|$ACK_DEADLINE|$MIN_RETRY|$MAX_RETRY|$NAME-dead-letters|$MAX_ATTEMPTS||$NAME"
        done <"$WORK/handlers"
    fi
}

# KIND NAME ROLE MEMBER: the least that works. `receive` is open to everybody, which its deployment sees to.
bindings() {
    local role name
    for role in $BUILD_ROLES; do
        echo "projects $PROJECT $role serviceAccount:$(account build)"
    done
    echo "secrets $NAME-secret roles/secretmanager.secretAccessor serviceAccount:$(account receive)"
    echo "pubsub-topics $NAME-rejected roles/pubsub.publisher serviceAccount:$(account receive)"
    echo "run-services $NAME-receive roles/run.invoker allUsers"
    pubsub || return 0
    echo "pubsub-topics $NAME-rejected roles/pubsub.publisher serviceAccount:$(account consume)"
    echo "pubsub-topics $NAME-events roles/pubsub.publisher serviceAccount:$(account receive)"
    echo "pubsub-topics $NAME-dead-letters roles/pubsub.publisher serviceAccount:$AGENT"
    echo "run-services $NAME-consume roles/run.invoker serviceAccount:$(account push)"
    while IFS='|' read -r name _; do
        echo "pubsub-subscriptions $name roles/pubsub.subscriber serviceAccount:$AGENT"
    done <"$WORK/handlers"
}

functions() { echo receive; if pubsub; then echo consume; fi; }

# The environment of both functions, a variable a line.
environment() {
    echo "DELIVERY=$DELIVERY"
    echo "GOOGLE_CLOUD_PROJECT=$PROJECT"
    echo "REJECTED_TOPIC=$NAME-rejected"
    if pubsub; then echo "PUBSUB_TOPIC=$NAME-events"; fi
    if [[ $1 == receive ]]; then echo "WEBHOOK_SECRET_FILE=$SECRET_PATH"; fi
    if ((${#PASSED_ON[@]})); then printf '%s\n' "${PASSED_ON[@]}"; fi
}

# The README says why these values.
function_flags() {
    echo "--concurrency=40 --cpu=1 --memory=1Gi --timeout=60s --max-instances=$MAX_INSTANCES"
    if [[ $1 == receive ]]; then
        echo "--allow-unauthenticated --min-instances=$MIN_INSTANCES --set-secrets=$SECRET_PATH=$NAME-secret:latest"
    else
        echo "--no-allow-unauthenticated --min-instances=0"
    fi
}

alerts() { if enabled monitoring; then if pubsub; then echo "$NAME: dead letters"; fi; echo "$NAME: errors"; fi; }

# --- words and settings ------------------------------------------------------------------------------------

usage() {
    case $COMMAND in
        deploy) cat <<'END' ;;
Usage: ./deploy.sh [--project P] [--region R] [--name N] [--delivery pubsub|inline] [--dry-run] [--yes] ...
       ./deploy.sh rotate-secret | status | delete [--help]

Makes what is missing, changes what differs, deploys, and proves that it works. Run it again at any time.

  --project P          default: that of gcloud's configuration
  --region R           default: europe-west1
  --name N             how everything is called; default: flowhook
  --delivery D         pubsub (the default) or inline: how events get to the handlers
  --secret-file FILE   the secret that Flows has, for the first deployment; - is standard input. Without it a
                       strong one is generated, and printed once
  --allow-weak-secret  take one of fewer than 16 characters
  --prune              remove the subscriptions of handlers that are gone without asking
  --dry-run            change nothing, print every command
  --yes                don't ask before the first change

Each is also a line of the file .env.deploy: PROJECT, REGION, NAME, DELIVERY, MIN_INSTANCES, MAX_INSTANCES,
NOTIFICATION_CHANNEL; any other VARIABLE=value there becomes a variable of the functions.
END
        rotate-secret) cat <<'END' ;;
Usage: ./deploy.sh rotate-secret [--secret-file FILE] [--allow-weak-secret] [--finish] [--project P] [--name N]

Adds a new secret, generated or from FILE (-: standard input), and prints it. The old one is accepted too until
you have put the new one into Flows and run this again with --finish. Nothing needs to be deployed.
END
        status) cat <<'END' ;;
Usage: ./deploy.sh status [--project P] [--region R] [--name N] [--delivery pubsub|inline]

Compares what is there with what should be, and sends the doctor's events. Exit status 1 if anything is wrong.
END
        delete) cat <<'END' ;;
Usage: ./deploy.sh delete [--all] [--yes] [--dry-run] [--project P] [--region R] [--name N]

Lists what is there, asks, and deletes it. The secret and the dead letters stay, unless --all is given.
END
    esac
}

die() { printf 'deploy.sh: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*" >&2; }

read_arguments() {
    case ${1-} in rotate-secret | status | delete) COMMAND=$1; shift ;; esac
    while (($#)); do
        case $1 in
            --project | --region | --name | --delivery | --secret-file)
                (($# > 1)) || die "$1 needs a value"
                case $1 in
                    --project) PROJECT=$2 ;; --region) REGION=$2 ;; --name) NAME=$2 ;;
                    --delivery) DELIVERY=$2 ;; --secret-file) SECRET_FILE=$2 ;;
                esac
                shift ;;
            --*=*) set -- ignored "${1%%=*}" "${1#*=}" "${@:2}" ;;
            --allow-weak-secret) WEAK=1 ;;
            --dry-run) DRY=1 ;;
            --yes) YES=1 ;;
            --prune) PRUNE=1 ;;
            --all) ALL=1 ;;
            --finish) FINISH=1 ;;
            -h | --help) usage; exit ;;
            *) die "unknown argument $1; ./deploy.sh --help" ;;
        esac
        shift
    done
}

# Read as data, never run. A line is VARIABLE=value; what this script doesn't know is for the functions.
read_file() {
    local line name value
    [[ -f .env.deploy ]] || return 0
    while IFS= read -r line || [[ -n $line ]]; do
        line=${line%$'\r'}
        [[ $line =~ ^[[:space:]]*(#|$) ]] && continue
        [[ $line =~ ^([A-Z][A-Z0-9_]*)=(.*)$ ]] || die ".env.deploy: a line is not VARIABLE=value"
        name=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
        case $name in
            PROJECT | REGION | NAME | DELIVERY | MIN_INSTANCES | MAX_INSTANCES | NOTIFICATION_CHANNEL)
                printf -v "$name" '%s' "$value" ;;
            *)
                [[ " $OURS " != *" $name "* ]] || die ".env.deploy: $name is set by this script"
                PASSED_ON+=("$name=$value")
                if [[ $name == DELIVERY_TIMEOUT ]]; then DELIVERY_TIMEOUT=$value; fi
                if [[ $name == WEBHOOK_AUTH ]]; then FORM=$value; fi ;;
        esac
    done <.env.deploy
}

check_settings() {
    [[ $NAME =~ ^[a-z][a-z0-9-]{1,20}[a-z0-9]$ ]] || die "--name $NAME: 3 to 22 of a-z, 0-9 and -, a letter first"
    [[ $DELIVERY == pubsub || $DELIVERY == inline ]] || die "--delivery $DELIVERY: it must be pubsub or inline"
    [[ $MIN_INSTANCES =~ ^[0-9]+$ && $MAX_INSTANCES =~ ^[1-9][0-9]*$ ]] || die "MIN_INSTANCES, MAX_INSTANCES: whole numbers"
    local seconds=${DELIVERY_TIMEOUT:-8}
    [[ ${seconds%.*} =~ ^[0-9]$|^[123][0-9]$ ]] ||
        die "DELIVERY_TIMEOUT=$seconds: at most 39 seconds, for the functions end after 60"
    ACK_DEADLINE=$((${seconds%.*} + ACK_MARGIN + 1))
}

# --- gcloud ------------------------------------------------------------------------------------------------

# Every change goes through here: it is shown, and made unless this is a dry run.
run() {
    local line
    printf -v line ' %q' "$@"
    # In one piece, for others write at the same time.
    printf '+%s\n' "$line" >&2
    if [[ -n $DRY ]]; then return; fi
    [[ $* == *"functions deploy"* ]] || : >"$WORK/changed"
    OUTPUT=$(mktemp "$WORK/output.XXXXXX")
    "$@" >"$OUTPUT" 2>&1 && return
    cat "$OUTPUT" >&2
    return 1
}

cloud() { gcloud "$@" --project="$PROJECT" --quiet; }
change() { run gcloud "$@" --project="$PROJECT" --quiet; }

# A new service account, or what it may do, is not known everywhere at once.
patiently() {
    local pause
    for pause in 1 2 4 8 16 16 16; do
        if change "$@"; then return; fi
        grep -qE "does not exist|Permission denied on secret" "$OUTPUT" || return 1
        say "Not known everywhere yet; again in $pause s."
        sleep "$pause"
    done
    change "$@"
}

# Things to do at once; `finish` waits for all of them and ends the script if one has failed.
JOBS=()
start() { "$@" & JOBS+=("$!"); }
finish() {
    local job failed=''
    for job in ${JOBS[@]+"${JOBS[@]}"}; do wait "$job" || failed=1; done
    JOBS=()
    [[ -z $failed ]] || exit 1
}

# Read something into a file of the state. What can't be read must not be taken for missing.
fetch() {
    local file=$1
    shift
    cloud "$@" >"$WORK/state/$file" 2>"$WORK/state/$file.error" && return
    die "gcloud ${*:1:3} failed, and nothing more is done:
$(cat "$WORK/state/$file.error")
Are you logged in (gcloud auth login), and may you do this in project $PROJECT? The README lists the roles."
}

enabled() { grep -qx "$1.googleapis.com" "$WORK/state/apis"; }
# Not -q, which would end a pipe before its time.
has() { grep -xF -- "$1" >/dev/null; }
known() { [[ -f $WORK/state/$1 ]] && grep -qxF -- "$2" "$WORK/state/$1"; }

# --- checks, before anything is changed --------------------------------------------------------------------

check_tools() {
    command -v gcloud >/dev/null || die "gcloud is not installed: https://cloud.google.com/sdk/docs/install"
    local version
    version=$(gcloud version --format='value("Google Cloud SDK")' 2>/dev/null) || version=0
    ((${version%%.*} >= OLDEST_GCLOUD)) || die "gcloud $version is too old: gcloud components update"
    PROJECT=${PROJECT:-${CLOUDSDK_CORE_PROJECT-}}
    if [[ -z $PROJECT ]]; then PROJECT=$(gcloud config get-value project 2>/dev/null) || PROJECT=''; fi
    [[ -n $PROJECT ]] || die "which project? --project P, or gcloud config set project P"
    PYTHON=${PYTHON:-.venv/bin/python}
    if [[ $PYTHON == .venv/bin/python && ! -x $PYTHON ]]; then make --silent .venv/.running >&2; fi
}

# Import what will be deployed, with the settings that it will have: a mistake stops here, not in production.
check_source() {
    local line variables=()
    while IFS= read -r line; do variables+=("$line"); done < <(environment receive | grep -v ^WEBHOOK_SECRET_FILE=)
    env -i PATH="$PATH" HOME="$WORK" WEBHOOK_SECRET=only-for-this-check "${variables[@]}" \
        "$PYTHON" -B -c 'import main' >"$WORK/import" 2>&1 || die "the source would not start, so nothing is deployed:
$(tail -n 20 "$WORK/import")"
}

# NAME|PATH|FILTER of each push subscription, the doctor's among them.
list_handlers() {
    local columns='import json, sys
for s in json.load(sys.stdin): print(s["name"], s["path"], s["filter"], sep="|")'
    "$PYTHON" -m flowhook subscriptions --topic "$NAME-events" --prefix "$NAME" | "$PYTHON" -c "$columns" >"$WORK/handlers" ||
        die "the handlers can't be listed"
    echo "$NAME-$DOCTOR|/$DOCTOR|$DOCTOR_FILTER" >>"$WORK/handlers"
}

check_project() {
    NUMBER=$(cloud projects describe "$PROJECT" --format='value(projectNumber)' 2>"$WORK/error") ||
        die "project $PROJECT can't be reached; is the id right, and are you logged in (gcloud auth login)?
$(cat "$WORK/error")"
    AGENT=service-$NUMBER@gcp-sa-pubsub.iam.gserviceaccount.com
    start check_billing
    start fetch apis services list --enabled --format='value(config.name)'
    finish
}

check_billing() {
    local billing
    billing=$(gcloud billing projects describe "$PROJECT" --format='value(billingEnabled)' --quiet 2>"$WORK/error.billing") ||
        die "the billing of project $PROJECT can't be read: $(cat "$WORK/error.billing")"
    [[ $billing == True ]] ||
        die "project $PROJECT has no billing account: https://console.cloud.google.com/billing/linkedaccount?project=$PROJECT"
}

# Only where a list of functions can't be had, to tell why.
check_region() {
    fetch regions functions regions list --gen2 --format='value(locationId)'
    grep -qx -- "$REGION" "$WORK/state/regions" ||
        die "--region $REGION has no Cloud Functions; choose one of: $(sort "$WORK/state/regions" | tr '\n' ' ')"
}

# --- what exists -------------------------------------------------------------------------------------------

readonly FIELDS='name.basename(),topic.basename(),pushConfig.pushEndpoint,pushConfig.oidcToken.serviceAccountEmail,pushConfig.oidcToken.audience,filter,ackDeadlineSeconds,retryPolicy.minimumBackoff,retryPolicy.maximumBackoff,deadLetterPolicy.deadLetterTopic.basename(),deadLetterPolicy.maxDeliveryAttempts,expirationPolicy.ttl,labels.flowhook'

read_state() {
    rm -f "$WORK"/state/policy.*
    if enabled iam; then start fetch accounts iam service-accounts list --format='value(email)'; fi
    if enabled secretmanager; then start fetch secrets secrets list --format='value(name.basename())'; fi
    if enabled pubsub; then
        start fetch topics pubsub topics list --format='value(name.basename())'
        start fetch_subscriptions
    fi
    if enabled cloudfunctions; then
        start fetch_functions
    fi
    if enabled monitoring; then
        start fetch alerts alpha monitoring policies list --filter="userLabels.flowhook=$NAME" --format="value[separator='|'](name,displayName)"
    fi
    finish
    CONSUME_URL=$(url consume)
    field 1 2>/dev/null <"$WORK/state/subscriptions" >"$WORK/state/subscription-names" || true
    read_policies
}

fetch_functions() {
    cloud functions list --v2 --regions="$REGION" --format="value[separator='|'](name.basename(),serviceConfig.uri)" \
        >"$WORK/state/functions" 2>"$WORK/state/functions.error" && return
    check_region
    die "the functions can't be listed: $(cat "$WORK/state/functions.error")"
}

fetch_subscriptions() { fetch subscriptions pubsub subscriptions list --format="value[separator='|']($FIELDS)"; }

# After changes: what `compare` looks at, and everything is there.
read_again() {
    local kind name
    start fetch_subscriptions
    while read -r kind name; do start read_policy "$kind" "$name"; done < <(bindings | cut -d' ' -f1,2 | sort -u)
    finish
    field 1 <"$WORK/state/subscriptions" >"$WORK/state/subscription-names"
}

url() { sed -n "s/^$NAME-$1|//p" "$WORK/state/functions" 2>/dev/null || true; }

read_policies() {
    local kind name
    while read -r kind name; do
        if exists "$kind" "$name"; then start read_policy "$kind" "$name"; fi
    done < <(bindings | cut -d' ' -f1,2 | sort -u)
    finish
}

exists() {
    case $1 in
        projects) true ;;
        secrets) known secrets "$2" ;;
        pubsub-topics) known topics "$2" ;;
        pubsub-subscriptions) known subscription-names "$2" ;;
        run-services) [[ -n $(url "${2#"$NAME"-}") ]] ;;
    esac
}

policy_command() {
    local words=()
    IFS=- read -r -a words <<<"$1"
    POLICY=("${words[@]}" "$2" "$3")
    if [[ $1 == run-services ]]; then POLICY+=("--region=$REGION"); fi
    if [[ $1 == secrets || $1 == projects ]] && [[ $2 == *-binding ]]; then POLICY+=(--condition=None); fi
}

read_policy() {
    policy_command "$1" get-iam-policy "$2"
    fetch "policy.$1.$2" "${POLICY[@]}" --flatten='bindings[].members' --format="value[separator=' '](bindings.role,bindings.members)"
}

# STATUS<tab>WHAT of every subscription and binding, for the table of the doctor.
compare() {
    local kind name role member line status
    while IFS= read -r line; do
        status=ok
        known subscriptions "$line" || status=differs
        known subscription-names "${line%%|*}" || status=missing
        printf '%s\tsubscription %s\n' "$status" "${line%%|*}"
    done < <(subscriptions)
    while read -r kind name role member; do
        status=ok
        known "policy.$kind.$name" "$role $member" || status=missing
        printf '%s\t%s on %s: %s\n' "$status" "$role" "$name" "$member"
    done < <(bindings)
    # Nobody else may read the secret or call consume.
    for name in "secrets $NAME-secret" "run-services $NAME-consume"; do
        [[ -f $WORK/state/policy.${name/ /.} ]] || continue
        while read -r role member; do
            bindings | has "$name $role $member" || printf 'unexpected\t%s on %s: %s\n' "$role" "${name#* }" "$member"
        done <"$WORK/state/policy.${name/ /.}"
    done
}

# --- what is changed ---------------------------------------------------------------------------------------

confirm() {
    if [[ -n $YES || -n $DRY ]]; then return; fi
    [[ -t 0 ]] || die "$1 Nobody is there to ask: give --yes"
    local answer
    read -r -p "$1 [y/N] " answer
    [[ $answer == [yY]* ]] || die "stopped; nothing has been changed"
}

enable_apis() {
    local api missing=()
    for api in $APIS; do enabled "$api" || missing+=("$api.googleapis.com"); done
    ((${#missing[@]})) || return 0
    change services enable "${missing[@]}" || die "the APIs can't be enabled; see above"
    # Pub/Sub's own account comes with its first use, which would be too late.
    change beta services identity create --service=pubsub.googleapis.com || die "Pub/Sub has no service account"
    if [[ -z $DRY ]]; then fetch apis services list --enabled --format='value(config.name)'; fi
}

make_accounts() {
    local email
    for email in $(accounts); do
        known accounts "$email" || start make_account "${email%%@*}"
    done
}
make_account() { change iam service-accounts create "$1" --display-name="$1" || die "service account $1 can't be made"; }

make_topics() {
    local topic missing=()
    for topic in $(topics); do known topics "$topic" || missing+=("$topic"); done
    ((${#missing[@]} == 0)) || change pubsub topics create "${missing[@]}" || die "the topics can't be made"
}

# A secret in $WORK/new: from a file or standard input, else a strong one. Never on a command line.
choose_secret() {
    case $SECRET_FILE in
        '') head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n' >"$WORK/new"; return ;;
        -) cat >"$WORK/raw" ;;
        *) cat -- "$SECRET_FILE" >"$WORK/raw" || die "--secret-file $SECRET_FILE can't be read" ;;
    esac
    "$PYTHON" -c 'import sys; sys.stdout.buffer.write(sys.stdin.buffer.read().strip())' <"$WORK/raw" >"$WORK/new"
    [[ -s $WORK/new ]] || die "the secret is empty"
    [[ $(wc -l <"$WORK/new") -eq 0 ]] || die "a secret is one line"
    [[ -n $WEAK || $(wc -c <"$WORK/new") -ge 16 ]] ||
        die "the secret has fewer than 16 characters and can be guessed; choose a longer one, or --allow-weak-secret"
}

make_secret() {
    local secret=$NAME-secret
    if known secrets "$secret"; then
        # An interruption may have left it without a version.
        if read_secret; then
            if [[ -n $SECRET_FILE ]] && ! grep -qxFf "$WORK/new" "$WORK/secret"; then die "there is a secret already: ./deploy.sh rotate-secret --secret-file $SECRET_FILE"; fi
            return
        fi
        change secrets versions add "$secret" --data-file=- <"$WORK/new" || die "the secret can't be kept"
    else
        change secrets create "$secret" --replication-policy=automatic --data-file=- <"$WORK/new" || die "the secret can't be kept"
    fi
    cp "$WORK/new" "$WORK/secret"
    [[ -n $DRY ]] || show_secret
}

# The accepted secrets into $WORK/secret; false where there is none. Dies where it can't be told.
read_secret() {
    cloud secrets versions access latest --secret="$NAME-secret" >"$WORK/secret" 2>"$WORK/error" && return
    grep -q NOT_FOUND "$WORK/error" || die "the secret can't be read: $(cat "$WORK/error")"
    return 1
}

show_secret() {
    if [[ -n $SECRET_FILE ]]; then return; fi
    printf '\nThe secret, shown this once. In Flows: Settings > Integrations > Webhook settings > Secret.\n\n    %s\n\n' "$(cat "$WORK/new")"
}

# $1 is push or keep: which subscriptions.
make_subscriptions() {
    local line name
    while IFS= read -r line; do
        name=${line%%|*}
        if ! is_to "$1" "$line" || known subscriptions "$line"; then continue; fi
        if ! known subscription-names "$name"; then
            start make_subscription "$line"
        elif same_source "$line"; then
            start update_subscription "$line"
        elif may_remove "The filter of $name has changed, and only a new subscription can have another. What it has not delivered yet would be lost. Replace it?"; then
            start replace_subscription "$line"
        fi
    done < <(subscriptions)
    finish
}

is_to() { if [[ -n $(field 3 <<<"$2") ]]; then [[ $1 == push ]]; else [[ $1 == keep ]]; fi; }
field() { cut -d'|' -f"$1"; }

# Whether topic and filter, which can't be changed, are what they should be.
same_source() {
    local present
    present=$(awk -F'|' -v name="${1%%|*}" '$1 == name' "$WORK/state/subscriptions")
    [[ $(field 2,6 <<<"$1") == "$(field 2,6 <<<"$present")" ]]
}

subscription_flags() {
    local name topic endpoint email audience filter ack min max dead attempts rest
    IFS='|' read -r name topic endpoint email audience filter ack min max dead attempts rest <<<"$1"
    FLAGS=("--ack-deadline=$ack" --expiration-period=never)
    [[ -z $endpoint ]] || FLAGS+=("--push-endpoint=$endpoint" "--push-auth-service-account=$email"
        "--push-auth-token-audience=$audience" "--min-retry-delay=$min" "--max-retry-delay=$max"
        "--dead-letter-topic=$dead" "--max-delivery-attempts=$attempts")
    NEW_FLAGS=("--topic=$topic" "--labels=flowhook=$NAME" ${filter:+"--message-filter=$filter"})
}

make_subscription() {
    local FLAGS NEW_FLAGS
    subscription_flags "$1"
    patiently pubsub subscriptions create "${1%%|*}" "${NEW_FLAGS[@]}" "${FLAGS[@]}" || die "subscription ${1%%|*} can't be made"
}

update_subscription() {
    local FLAGS NEW_FLAGS
    subscription_flags "$1"
    change pubsub subscriptions update "${1%%|*}" "--update-labels=flowhook=$NAME" "${FLAGS[@]}" || die "subscription ${1%%|*} can't be changed"
}

replace_subscription() {
    change pubsub subscriptions delete "${1%%|*}" || die "subscription ${1%%|*} can't be deleted"
    rm -f "$WORK/state/policy.pubsub-subscriptions.${1%%|*}"
    make_subscription "$1"
}

may_remove() {
    if [[ -n $PRUNE ]]; then return; fi
    if [[ ! -t 3 ]]; then say "$1 Kept; --prune says yes."; return 1; fi
    local answer
    read -r -u 3 -p "$1 [y/N] " answer
    [[ $answer == [yY]* ]]
}

# Before consume is deployed without the handler: until then it can still deliver.
prune() {
    local name gone=()
    pubsub && [[ -f $WORK/state/subscriptions ]] || return 0
    while IFS= read -r name; do
        subscriptions | field 1 | has "$name" || gone+=("$name")
    done < <(grep "|$NAME\$" "$WORK/state/subscriptions" | field 1)
    ((${#gone[@]})) || return 0
    if may_remove "These subscriptions belong to no handler any more: ${gone[*]}. What they have not delivered yet would be lost. Remove them?"; then
        change pubsub subscriptions delete "${gone[@]}" || die "the subscriptions can't be removed"
    fi
}

# Bindings on one resource in turn, for each is a change of the same policy; resources at once. $@: kinds.
bind() {
    local kind name
    while read -r kind name; do
        [[ " $* " == *" $kind "* ]] || continue
        start bind_resource "$kind" "$name"
    done < <(bindings | cut -d' ' -f1,2 | sort -u)
    finish
}

bind_resource() {
    local kind name role member POLICY
    while read -r kind name role member; do
        if [[ $kind != "$1" || $name != "$2" ]] || known "policy.$kind.$name" "$role $member"; then continue; fi
        if [[ $member == allUsers ]]; then continue; fi
        policy_command "$kind" add-iam-policy-binding "$name"
        patiently "${POLICY[@]}" "--member=$member" "--role=$role" || die "$role on $name can't be given to $member"
    done < <(bindings)
}

deploy_functions() {
    local target
    for target in $(functions); do start deploy_function "$target"; done
    finish
}

deploy_function() {
    local target=$1 flags=() python='import json, sys
json.dump(dict(line.rstrip("\n").split("=", 1) for line in sys.stdin), sys.stdout)'
    read -r -a flags <<<"$(function_flags "$target" | tr '\n' ' ')"
    environment "$target" | "$PYTHON" -c "$python" >"$WORK/environment.$target.json"
    say "# $WORK/environment.$target.json sets $(environment "$target" | cut -d= -f1 | tr '\n' ' ')"
    # SOURCE_DATE_EPOCH makes the buildpack's bytecode valid by content: every file of an image is from 1980.
    patiently functions deploy "$NAME-$target" --gen2 --region="$REGION" --runtime="$RUNTIME" --source=. \
        --entry-point="$target" --trigger-http --ingress-settings=all \
        --service-account="$(account "$target")" \
        --build-service-account="projects/$PROJECT/serviceAccounts/$(account build)" \
        --set-build-env-vars=SOURCE_DATE_EPOCH=315532800 --env-vars-file="$WORK/environment.$target.json" \
        --update-labels="flowhook=$NAME" "${flags[@]}" && return
    if grep -qiE "organization policy|permitted customer" "$OUTPUT"; then
        die "$NAME-receive must be open to everybody, for Flows has no Google identity, and a policy of your organization
forbids allUsers: let an administrator exempt project $PROJECT from constraints/iam.allowedPolicyMemberDomains, and run this again"
    fi
    die "$NAME-$target was not deployed; the lines above say why, and where the log of a build is. All builds:
https://console.cloud.google.com/cloud-build/builds;region=$REGION?project=$PROJECT"
}

# The addresses are known only now, on the first deployment.
read_urls() {
    if [[ -n $DRY ]]; then
        CONSUME_URL=${CONSUME_URL:-https://URL-OF-CONSUME}
    elif [[ -z $(url receive) || (-z $CONSUME_URL && $DELIVERY == pubsub) ]]; then
        fetch_functions
        CONSUME_URL=$(url consume)
    fi
}

make_alerts() {
    local alert
    while IFS= read -r alert; do
        if [[ -z $alert ]] || field 2 2>/dev/null <"$WORK/state/alerts" | has "$alert"; then continue; fi
        write_alert "$alert"
        change alpha monitoring policies create --policy-from-file="$WORK/alert.json" \
            ${NOTIFICATION_CHANNEL:+"--notification-channels=$NOTIFICATION_CHANNEL"} || die "alert $alert can't be made"
    done < <(alerts)
}

# Dead letters: one is one too many. Errors: more than one answer of receive in twenty is 5xx.
write_alert() {
    local requests="resource.type = \\\"cloud_run_revision\\\" AND resource.labels.service_name = \\\"$NAME-receive\\\" AND metric.type = \\\"run.googleapis.com/request_count\\\""
    local sum='[{"alignmentPeriod": "300s", "perSeriesAligner": "ALIGN_DELTA", "crossSeriesReducer": "REDUCE_SUM"}]'
    local threshold
    if [[ $1 == *"dead letters" ]]; then
        threshold="\"filter\": \"resource.type = \\\"pubsub_subscription\\\" AND resource.labels.subscription_id = \\\"$NAME-dead-letters\\\" AND metric.type = \\\"pubsub.googleapis.com/subscription/num_undelivered_messages\\\"\", \"aggregations\": [{\"alignmentPeriod\": \"300s\", \"perSeriesAligner\": \"ALIGN_MAX\"}], \"thresholdValue\": 0"
    else
        threshold="\"filter\": \"$requests AND metric.labels.response_code_class = \\\"5xx\\\"\", \"aggregations\": $sum, \"denominatorFilter\": \"$requests\", \"denominatorAggregations\": $sum, \"thresholdValue\": 0.05"
    fi
    cat >"$WORK/alert.json" <<END
{"displayName": "$1", "combiner": "OR", "userLabels": {"flowhook": "$NAME"}, "conditions": [{"displayName": "$1",
"conditionThreshold": {$threshold, "comparison": "COMPARISON_GT", "duration": "0s"}}]}
END
}

# --- commands ----------------------------------------------------------------------------------------------

prove() {
    local auth=${FORM:-auto} options=()
    if [[ $auth == auto ]]; then auth=bearer; fi
    compare >"$WORK/found"
    [[ -n $(url receive) ]] || die "$NAME-receive is not deployed in $REGION: ./deploy.sh"
    options=(--url "$(url receive)" --auth "$auth" --secret-file "$WORK/secret" --found "$WORK/found"
        --project "$PROJECT" --rejected-topic "$NAME-rejected")
    if pubsub; then options+=(--topic "$NAME-events"); fi
    "$PYTHON" -m flowhook doctor "${options[@]}" || die "not everything works; the table says what. Logs:
https://console.cloud.google.com/run/detail/$REGION/$NAME-receive/logs?project=$PROJECT"
}

deploy() {
    check_source
    choose_secret
    confirm "Deploy $NAME to project $PROJECT, region $REGION, delivery $DELIVERY?"
    enable_apis
    read_state
    prune
    make_accounts
    start make_topics
    make_secret
    finish
    make_subscriptions keep
    bind projects secrets pubsub-topics
    deploy_functions
    read_urls
    make_subscriptions push
    bind pubsub-subscriptions run-services
    make_alerts
    if [[ -n $DRY ]]; then say "This was a dry run: nothing has been changed."; return; fi
    if [[ -e $WORK/changed ]] || [[ -n $(compare | sed /^ok/d) ]]; then read_again; fi
    prove
}

status() {
    read_state
    read_secret || die "there is no secret: ./deploy.sh"
    prove
}

rotate_secret() {
    local secret=$NAME-secret version
    if ! enabled secretmanager || ! read_secret; then die "there is no secret yet: ./deploy.sh"; fi
    fetch versions secrets versions list "$secret" --filter=state=ENABLED --format='value(name.basename())'
    if [[ -n $FINISH ]]; then
        (($(grep -c . "$WORK/secret") > 1)) || die "no rotation is under way"
        head -n 1 "$WORK/secret" | tr -d '\n' >"$WORK/accepted"
    else
        (($(grep -c . "$WORK/secret") == 1)) ||
            die "a rotation is under way: finish it with --finish. The new secret is the first line of
gcloud secrets versions access latest --secret=$secret --project=$PROJECT"
        choose_secret
        { cat "$WORK/new"; echo; cat "$WORK/secret"; } >"$WORK/accepted"
    fi
    change secrets versions add "$secret" --data-file=- <"$WORK/accepted" || die "the secret can't be kept"
    if [[ -n $FINISH ]]; then
        while read -r version; do start disable_version "$version"; done <"$WORK/state/versions"
        finish
        say "The old secret is accepted no more, within a minute."
    elif [[ -z $DRY ]]; then
        show_secret
        say "Both secrets are accepted. When Flows has the new one: ./deploy.sh rotate-secret --finish"
    fi
}
disable_version() { change secrets versions disable "$1" --secret="$NAME-secret" || die "version $1 can't be disabled"; }

delete() {
    local topic gone_topics=() gone_subscriptions=() gone_accounts=() gone_functions=() keep="$NAME-dead-letters" email name
    read_state
    if [[ -n $ALL ]]; then keep=''; fi
    for topic in "$NAME-events" "$NAME-rejected" "$NAME-dead-letters"; do
        if known topics "$topic" && [[ $topic != "$keep" ]]; then gone_topics+=("$topic"); fi
    done
    while IFS= read -r name; do
        [[ -z $name || $name == "$keep" ]] || gone_subscriptions+=("$name")
    done < <(grep "|$NAME\$" "$WORK/state/subscriptions" 2>/dev/null | field 1)
    for name in build receive consume push; do
        email=$(account "$name")
        if known accounts "$email"; then gone_accounts+=("$email"); fi
    done
    for name in receive consume; do
        if [[ -n $(url "$name") ]]; then gone_functions+=("$NAME-$name"); fi
    done
    say "In project $PROJECT, to be deleted:"
    for name in ${gone_functions[@]+"${gone_functions[@]}"} ${gone_subscriptions[@]+"${gone_subscriptions[@]}"} \
        ${gone_topics[@]+"${gone_topics[@]}"} ${gone_accounts[@]+"${gone_accounts[@]}"}; do say "  $name"; done
    field 2 2>/dev/null <"$WORK/state/alerts" | sed 's/^/  alert /' >&2 || true
    if known secrets "$NAME-secret"; then
        if [[ -n $ALL ]]; then say "  $NAME-secret"; else say "To be kept (--all deletes them): $NAME-secret, $NAME-dead-letters"; fi
    fi
    confirm "Delete all of this?"
    for name in ${gone_functions[@]+"${gone_functions[@]}"}; do start delete_function "$name"; done
    finish
    ((${#gone_subscriptions[@]} == 0)) || change pubsub subscriptions delete "${gone_subscriptions[@]}" || die "see above"
    ((${#gone_topics[@]} == 0)) || start change pubsub topics delete "${gone_topics[@]}"
    # What an account may do must go before the account, or the policy keeps a trace of it.
    start unbind projects "$PROJECT"
    start unbind secrets "$NAME-secret"
    finish
    for email in ${gone_accounts[@]+"${gone_accounts[@]}"}; do start change iam service-accounts delete "$email"; done
    for name in $(field 1 2>/dev/null <"$WORK/state/alerts"); do start change alpha monitoring policies delete "$name"; done
    if [[ -n $ALL ]] && known secrets "$NAME-secret"; then start change secrets delete "$NAME-secret"; fi
    finish
}
delete_function() { change functions delete "$1" --gen2 --region="$REGION" || die "$1 can't be deleted"; }

unbind() {
    local kind name role member POLICY
    while read -r kind name role member; do
        if [[ $kind != "$1" || $name != "$2" ]] || ! known "policy.$kind.$name" "$role $member"; then continue; fi
        policy_command "$kind" remove-iam-policy-binding "$name"
        change "${POLICY[@]}" "--member=$member" "--role=$role" || die "$role on $name can't be taken from $member"
    done < <(bindings)
}

interrupted() {
    say "Interrupted. Run it again: it goes on where it stopped."
    kill ${JOBS[@]+"${JOBS[@]}"} 2>/dev/null || true
    exit 130
}

main() {
    # Questions are asked here, wherever standard input comes from by then.
    exec 3<&0
    read_file
    read_arguments "$@"
    check_settings
    umask 077
    WORK=$(mktemp -d)
    mkdir "$WORK/state"
    trap 'rm -rf "$WORK"' EXIT
    trap interrupted INT TERM
    check_tools
    # A broken handler must not stop a rotation or a deletion.
    : >"$WORK/handlers"
    if [[ $COMMAND == deploy || $COMMAND == status ]] && pubsub; then list_handlers; fi
    check_project
    case $COMMAND in
        deploy) deploy ;;
        status) status ;;
        rotate-secret) rotate_secret ;;
        delete) delete ;;
    esac
}

CONSUME_URL=''
main "$@"
