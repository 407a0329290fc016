#!/usr/bin/env bash
# Tests of pages need a Chromium. Uses the one that is there; on a Debian machine, as root, installs it.
# Where neither is possible the browser tests are skipped, with this as their reason.
command -v chromium chromium-browser google-chrome > /dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    echo "installing Chromium for the tests of pages"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install --yes --no-install-recommends chromium; } > /dev/null 2>&1 ||
        echo "Chromium could not be installed: the tests of pages will be skipped"
else
    echo "no Chromium here: the tests of pages will be skipped"
fi
