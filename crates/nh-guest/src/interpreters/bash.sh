# Runs code for the hub in one shell that is kept (see guest/interpreter.rs).
exec {__requests}<&"$NEURALHUB_REQUESTS" {__results}>&"$NEURALHUB_RESULTS"
eval "exec $NEURALHUB_REQUESTS<&- $NEURALHUB_RESULTS>&-"
unset NEURALHUB_REQUESTS NEURALHUB_RESULTS
while IFS= read -r -d '' -u "$__requests" __code && IFS= read -r -d '' -u "$__requests" __stdin; do
    eval "$__code" < <(printf '%s' "$__stdin")
    printf '{"exit_code":%d}\n' "$?" >&"$__results"
done
