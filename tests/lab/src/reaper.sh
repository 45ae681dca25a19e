# Ends what a lab started, however the process that holds the lab ends: it waits for the end of its
# input, which the kernel closes even after a SIGKILL. Read by reaper.rs, which says what it is told.
trap '' HUP INT QUIT TERM PIPE

scratch=$(mktemp -d "${TMPDIR:-/tmp}/awi-lab.XXXXXX") || exit
echo "$scratch"

set -- "$scratch" # the folders to remove
groups=' '
while read -r word value; do
  case $word in
    started) groups="$groups$value " ;;
    ended)
      case $groups in
        *" $value "*) groups="${groups%% "$value" *} ${groups#* "$value" }" ;;
      esac
      ;;
    folder) set -- "$@" "$value" ;;
  esac
done

for group in $groups; do
  kill -s KILL -- "-$group" 2>/dev/null
done
# The killed may be writing a last file; whether they are gone cannot be asked, as nobody may collect zombies.
patience=50
until rm -rf -- "$@" 2>/dev/null || [ "$patience" -eq 0 ]; do
  patience=$((patience - 1))
  sleep 0.1
done
