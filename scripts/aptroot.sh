# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
#
# apt without root and without a change to the system: shell functions for the scripts that fetch packages (read it
# with "."). The archive entries, keys and checks are the machine's own; lists, caches and downloads lie below a folder
# that the caller made and removes.
#
#   apt_root WORK            from here on apt-get and apt-cache use private lists, empty at first, and no system hooks
#   apt_root_machine WORK    the same, but with the package lists the machine has already
#   apt_archives COMPONENT   prints "URI key" for each archive of the distribution that has COMPONENT (main, universe);
#                            the key's file may be missing
#   apt_entry TYPE URI SUITE COMPONENT KEY   prints an entry for WORK/parts/NAME.sources
#   apt_only_entries WORK    from here on WORK/parts holds all entries: the machine's own are not read any more

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
