# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
#
# apt without root and without a change to the system: shell functions for the scripts that fetch packages (read it
# with "."). The archive entries, keys and checks are the machine's own; lists, caches and downloads lie below a folder
# that is removed at the end.
#
#   $cache                   where what was fetched is kept
#   die WORDS                says so in the script's name, and ends it
#   apt_failed WORDS LOG...  the same, with apt's words in these files before it
#   apt_tools TOOL...        dies unless they are all there
#   apt_work FOLDER          makes the folder $work in that one, which the end of the script removes
#   apt_root WORK            from here on apt-get and apt-cache use private lists, empty at first, and no system hooks
#   apt_root_machine WORK    the same, but with the package lists the machine has already
#   apt_archives COMPONENT   prints "URI key" for each archive of the distribution that has COMPONENT (main, universe);
#                            the key's file may be missing
#   apt_entry TYPE URI SUITE COMPONENT KEY   prints an entry for WORK/parts/NAME.sources
#   apt_only_entries WORK    from here on WORK/parts holds all entries: the machine's own are not read any more
#   apt_of WORK ARCH         from here on packages of that architecture
#   apt_installed WORK       from here on what the machine has installed counts as there
#   apt_unpack WORK DEBS     unpacks all packages in the folder DEBS to WORK/tree
#   apt_keep TREE DIR FILE   the folder TREE becomes DIR, unless somebody else's DIR is there and holds FILE; fails if
#                            neither is so

# shellcheck disable=SC2034 # the script's
cache=${CANDELA_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/candela}

die() { echo "$(basename "$0" .sh): $*" >&2; exit 1; }

apt_failed() {
    words=$1
    shift
    cat "$@" | sed 's/^/  /' >&2
    die "$words"
}

apt_tools() {
    for tool in "$@"; do
        command -v "$tool" >/dev/null || die "$tool is missing"
    done
}

apt_work() {
    mkdir -p "$1" 2>/dev/null || die "cannot write to $cache; set CANDELA_CACHE"
    work=$(mktemp -d "$1/fetch.XXXXXX") || die "cannot write to $cache; set CANDELA_CACHE"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
}

apt_root() {
    mkdir -p "$1/parts" "$1/lists/partial" "$1/archives/partial"
    : > "$1/status"
    cat > "$1/apt.conf" <<CONF
Dir::State::lists "$1/lists";
Dir::State::status "$1/status";
Dir::Cache "$1";
Dir::Cache::archives "$1/archives";
APT::Update::Pre-Invoke { "true"; };
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
CONF
    # Hooks of the system (package kit, clean-ups of the system's cache) are for the system's own updates.
    printf '#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n' >> "$1/apt.conf"
    APT_CONFIG=$1/apt.conf
    export APT_CONFIG
}

apt_root_machine() {
    apt_root "$1"
    sed -i '/^Dir::State::lists/d' "$1/apt.conf"
}

apt_of() {
    printf 'APT::Architecture "%s";\nAPT::Architectures { "%s"; };\n' "$2" "$2" >> "$1/apt.conf"
}

# It is read, and never written: its lock, which only root may take, is left alone.
apt_installed() {
    printf 'Dir::State::status "/var/lib/dpkg/status";\nDebug::NoLocking "true";\n' >> "$1/apt.conf"
}

apt_unpack() {
    mkdir -p "$1/tree"
    for deb in "$2"/*.deb; do
        [ -e "$deb" ] || continue           # there is none
        dpkg-deb -x "$deb" "$1/tree" > "$1/log" 2>&1 ||
            apt_failed "cannot unpack ${deb##*/} (dpkg-deb's words above)" "$1/log"
    done
}

# Two may fetch at once: the first to finish wins, and both find a whole tree.
apt_keep() {
    mv -T "$1" "$2" 2>/dev/null || [ -e "$2/$3" ]
}

apt_only_entries() {
    printf 'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "%s/parts";\n' "$1" >> "$1/apt.conf"
}

apt_entry() {
    printf 'Types: %s\nURIs: %s\nSuites: %s\nComponents: %s\n' "$1" "$2" "$3" "$4"
    [ -z "$5" ] || printf 'Signed-By: %s\n' "$5"
    echo
}

# Both file formats.
apt_archives() {
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -r "$f" ] && sed 's/#.*//' "$f" | awk -v want="$1" '
            $1 == "deb" {
                key = ""; i = 2
                if ($2 ~ /^\[/)
                    for (; i <= NF; i++) {
                        word = $i; gsub(/[][]/, "", word)
                        if (word ~ /^signed-by=/) key = substr(word, 11)
                        if ($i ~ /\]$/) { i++; break }
                    }
                for (c = i + 2; c <= NF; c++)
                    if ($c == want && $(i + 1) !~ /security|backports|\//) { print $i, key; next }
            }'
    done
    for f in /etc/apt/sources.list.d/*.sources; do
        [ -r "$f" ] && sed '/^#/d' "$f" | awk -v want="$1" '
            BEGIN { RS = ""; FS = "\n" }
            {
                split("", field); name = ""
                for (i = 1; i <= NF; i++) {
                    if ($i ~ /^[A-Za-z-]+:/) {
                        name = tolower(substr($i, 1, index($i, ":") - 1))
                        field[name] = substr($i, index($i, ":") + 1)
                    } else
                        field[name] = field[name] " " $i
                }
                if ((" " field["components"] " ") !~ (" " want " ") || field["types"] !~ /deb/ ||
                    tolower(field["enabled"]) ~ /no/)
                    next
                plain = 0; n = split(field["suites"], suite, " ")
                for (i = 1; i <= n; i++)
                    if (suite[i] !~ /security|backports|\//) plain = 1
                # A key written out in the entry (several lines) cannot travel in one line: the trusted ones serve.
                key = field["signed-by"]; gsub(/^ +| +$/, "", key)
                if (key ~ / /) key = ""
                n = split(field["uris"], uri, " ")
                if (plain) for (i = 1; i <= n; i++) print uri[i], key
            }'
    done | sort -u
    true
}
