# Runs code for the hub in one shell that is kept (see guest/interpreter.rs). How code
# ended is told by the condition of a loop, so that a `continue` or `break` of its own
# changes nothing.
exec {__requests}<&"$NEURALHUB_REQUESTS" {__results}>&"$NEURALHUB_RESULTS"
eval "exec $NEURALHUB_REQUESTS<&- $NEURALHUB_RESULTS>&-"
unset NEURALHUB_REQUESTS NEURALHUB_RESULTS
__turn() {
    local status=$?
    [ -z "$__has_run" ] || printf '{"exit_code":%d}\n' "$status" >&"$__results"
    __has_run=1
    IFS= read -r -d '' -u "$__requests" __code && IFS= read -r -d '' -u "$__requests" __stdin || exit 0
}
while :; do
    while __turn; do
        if [ -n "$__stdin" ]; then
            eval "$__code" < <(printf '%s' "$__stdin")
        else
            eval "$__code" </dev/null
        fi
    done
done
