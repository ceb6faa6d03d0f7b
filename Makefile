# SPDX-License-Identifier: GPL-2.0-only
# sipkeep. `make help` lists the targets; V=1 shows the commands.

VERSION := 0.1.0-dev
# `make O=build/x VERSION=... DEFINES=-D...` builds another sipkeep, in a directory of its own.
O := build
DEFINES :=

CLANG ?= clang
BPFTOOL ?= bpftool
PKG_CONFIG ?= pkg-config
CLANG_FORMAT ?= clang-format
INSTALL ?= install
# bpftool is in /usr/sbin, which isn't on everybody's path.
export PATH := $(PATH):/usr/sbin:/sbin

# Debian's places for what is built on the machine itself; a package sets PREFIX=/usr. The config's place is compiled in.
PREFIX ?= /usr/local
SBINDIR ?= $(PREFIX)/sbin
UNITDIR ?= $(PREFIX)/lib/systemd/system
DOCDIR ?= $(PREFIX)/share/doc/sipkeep
LIBEXECDIR ?= $(PREFIX)/libexec/sipkeep
CONFDIR := /etc/sipkeep

CFLAGS ?= -O2 -g
HARDENING ?= -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection -fPIE
HARDENING_LD ?= -pie -Wl,-z,relro,-z,now
SANITIZE ?= -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

# bpf/match.h is compiled for the host too, and has pragmas that only clang knows.
WARN := -std=gnu11 -Wall -Wextra -Werror -Wno-unknown-pragmas
INCLUDES := $(DEFINES) -Iinclude -Iuser -I$(O) -Ibpf
PACKAGES := libbpf libconfig jansson libsystemd
# Looked up when a command runs, not when make starts: `sudo make run` installs them in between.
LIB_CFLAGS = $$($(PKG_CONFIG) --cflags $(PACKAGES))
LIBS = -Wl,--as-needed $$($(PKG_CONFIG) --libs $(PACKAGES)) -lelf -lz -lm
BPF_CFLAGS = -g -O2 -target bpf -mcpu=v3 -Wall -Werror $(DEFINES) -Iinclude -Ibpf -I/usr/include/$$($(CC) -print-multiarch)

BPF_OBJECTS := $(patsubst bpf/%.bpf.c,$(O)/bpf/%.o,$(wildcard bpf/*.bpf.c))
OBJECTS := $(patsubst user/%.c,$(O)/user/%.o,$(wildcard user/*.c))
# With sanitizers, gcc warns of truncations that can't be: the plain build has that warning.
SANITIZED := $(WARN) -Wno-format-truncation $(SANITIZE)
# The unit tests link a sanitized archive of everything but main(): a new tests/unit/test_X.c needs no line here.
UNIT_OBJECTS := $(patsubst user/%.c,$(O)/unit/user/%.o,$(filter-out user/main.c,$(wildcard user/*.c)))
UNIT_TESTS := $(patsubst tests/unit/%.c,$(O)/unit/%,$(wildcard tests/unit/test_*.c))

ifeq ($(V),1)
Q :=
say := @:
else
Q := @
MAKEFLAGS += --no-print-directory
say := @printf '  %-7s %s\n'
endif

.DELETE_ON_ERROR:
.PHONY: all deps run check check-unit check-vm demo soak bench info install uninstall clean help format lint \
	other-version other-layout build-needs check-needs vm-needs demo-needs build-tests tools own

all: $(O)/sipkeep ## build build/sipkeep (the default)

# ---- the BPF programs: each hook compiled alone, linked into one object, embedded as a skeleton

$(O)/bpf/%.o: bpf/%.bpf.c | build-needs
	$(say) BPF $@
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -c $< -o $@

$(O)/sipkeep.bpf.o: $(BPF_OBJECTS)
	$(say) LINK $@
	$(Q)$(BPFTOOL) gen object $@ $^

$(O)/sipkeep.skel.h: $(O)/sipkeep.bpf.o
	$(say) SKEL $@
	$(Q)$(BPFTOOL) gen skeleton $< name sipkeep_bpf >$@

# ---- the command

$(O)/user/%.o: user/%.c | $(O)/sipkeep.skel.h build-needs
	$(say) CC $@
	@mkdir -p $(@D)
	$(Q)$(CC) $(WARN) $(CFLAGS) $(HARDENING) $(CPPFLAGS) $(INCLUDES) $(LIB_CFLAGS) -MMD -MP -c $< -o $@

$(O)/user/version.o: override CPPFLAGS += -DSIPKEEP_VERSION='"$(VERSION)"'
$(O)/user/version.o: Makefile

$(O)/sipkeep: $(OBJECTS)
	$(say) LINK $@
	$(Q)$(CC) $(CFLAGS) $(HARDENING) $(HARDENING_LD) $(LDFLAGS) -o $@ $^ $(LIBS)

# ---- tests

$(O)/unit/user/%.o: user/%.c | $(O)/sipkeep.skel.h build-needs
	$(say) CC $@
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANITIZED) $(CPPFLAGS) $(INCLUDES) $(LIB_CFLAGS) -MMD -MP -c $< -o $@

$(O)/unit/libsipkeep.a: $(UNIT_OBJECTS)
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $^

# Compiled by its relative path: some tests find the checkout by it.
$(O)/unit/test_%: tests/unit/test_%.c $(O)/unit/libsipkeep.a | check-needs
	$(say) CC $@
	$(Q)$(CC) $(SANITIZED) $(CPPFLAGS) $(INCLUDES) $(LIB_CFLAGS) -MMD -MP -MF $@.d -o $@ $< \
		$(O)/unit/libsipkeep.a $(LIBS) -lcmocka

tools: | check-needs
	@mkdir -p $(O)/tools
	$(Q)$(MAKE) $(if $(Q),-s) -C tests/tools O=$(CURDIR)/build/tools

# Others to upgrade to: of the same layout, and of another one.
other-version: all
	$(Q)$(MAKE) O=build/other VERSION=0.2.0-other all
other-layout: all
	$(Q)$(MAKE) O=build/next VERSION=0.3.0-next DEFINES='-DSIPKEEP_ABI=1000 -DSIPKEEP_SPARE=__u64' all

build-tests: all $(UNIT_TESTS) tools other-version other-layout

check: build-tests | check-needs ## build and pass every test (needs root)
	@$(MAKE) own
	@tests/run

check-unit: $(UNIT_TESTS) ## build and pass the unit tests
	@tests/run $(UNIT_TESTS)

# KERNELS="6.1 7.2" takes fewer, SUITE=core fewer tests; CACHE is where the kernels are kept: see tests/vm/run.
check-vm: build-tests | check-needs vm-needs ## the e2e tests on KERNELS= (5.10 6.1 6.12 7.2), emulated; SUITE=core: in short (needs root)
	@$(MAKE) own
	@tests/vm/run

demo: all | demo-needs ## a guarded Kamailio in a namespace of its own, in under a minute (needs root)
	@$(MAKE) own
	@SIPKEEP=$(O)/sipkeep deploy/demo/demo.sh

# In the tests' private surroundings, their output shown.
SOAK := $(wildcard tests/bench/soak*.sh)
BENCH := $(filter-out $(SOAK),$(wildcard tests/bench/*.sh))
bench: all tools | check-needs ## measure (needs root)
	@$(if $(BENCH),tests/run --show $(BENCH),echo "There is no benchmark yet")

soak: all tools | check-needs ## the tests that take hours (needs root)
	@$(if $(SOAK),tests/run --show $(SOAK),echo "There is no soak test yet")

info: $(O)/sipkeep.bpf.o ## instructions and stack of each BPF program, as this kernel's verifier has them (needs root)
	@tests/lib/info $<

# ---- a first run

CONFIG ?=
CGROUP ?=
# Ctrl-C ends it, and is no failure.
run: all ## observe CGROUP= (the whole host) by CONFIG= (the sample), print events until Ctrl-C (needs root)
	@$(MAKE) own
	@$(if $(CONFIG),,$(INSTALL) -m 0644 deploy/sipkeep.conf $(O)/sipkeep.conf)
	@trap : INT; $(O)/sipkeep run -c '$(or $(CONFIG),$(O)/sipkeep.conf)' --unload-at-exit --observe \
		$(if $(CGROUP),--cgroup '$(CGROUP)'); code=$$?; [ $$code = 130 ] || exit $$code

# ---- what must be installed: missing Debian packages are installed by these targets for root, named otherwise

deps: ## install the Debian packages that building, tests and demo need, where missing (needs root)
	@tests/lib/packages --install build test demo

INSTALLING := $(if $(filter run check check-unit check-vm demo soak bench,$(MAKECMDGOALS)),--install)
build-needs:
	@tests/lib/packages $(INSTALLING) build
check-needs: | build-needs
	@tests/lib/packages $(INSTALLING) test
vm-needs: | build-needs
	@tests/lib/packages $(INSTALLING) vm
demo-needs: | build-needs
	@tests/lib/packages $(INSTALLING) demo

# What sudo built belongs to whoever called it, so that the next `make` needs no root.
own:
	@[ -z "$$SUDO_UID" ] || chown -hR "$$SUDO_UID:$$SUDO_GID" build

# ---- installation

install: all ## install to DESTDIR, PREFIX (default /usr/local); an existing config is kept
	$(say) INSTALL $(DESTDIR)$(SBINDIR)/sipkeep
	$(Q)$(INSTALL) -D -m 0755 $(O)/sipkeep $(DESTDIR)$(SBINDIR)/sipkeep
	$(say) INSTALL $(DESTDIR)$(UNITDIR)/sipkeep.service
	$(Q)$(INSTALL) -d -m 0755 $(DESTDIR)$(UNITDIR)
	$(Q)sed 's|/usr/sbin/sipkeep|$(SBINDIR)/sipkeep|; s|/usr/share/doc/sipkeep|$(DOCDIR)|' deploy/systemd/sipkeep.service >$(O)/sipkeep.service
	$(Q)$(INSTALL) -m 0644 $(O)/sipkeep.service $(DESTDIR)$(UNITDIR)/sipkeep.service
	$(say) INSTALL $(DESTDIR)$(DOCDIR)
	$(Q)$(INSTALL) -d -m 0755 $(DESTDIR)$(DOCDIR)
	$(Q)$(INSTALL) -m 0644 README.md CHANGELOG.md LICENSE deploy/sipkeep.conf $(DESTDIR)$(DOCDIR)
	$(Q)$(INSTALL) -d -m 0755 $(DESTDIR)$(DOCDIR)/doc/causes
	$(Q)$(INSTALL) -m 0644 doc/causes/*.md $(DESTDIR)$(DOCDIR)/doc/causes
	$(Q)$(INSTALL) -d -m 0755 $(DESTDIR)$(DOCDIR)/actions
	$(Q)for file in deploy/actions/*.conf; do \
		sed 's|/usr/libexec/sipkeep|$(LIBEXECDIR)|' $$file >$(O)/action.conf && \
		$(INSTALL) -m 0644 $(O)/action.conf $(DESTDIR)$(DOCDIR)/actions/$${file##*/} || exit; \
	done
	$(say) INSTALL $(DESTDIR)$(LIBEXECDIR)
	$(Q)$(INSTALL) -d -m 0755 $(DESTDIR)$(LIBEXECDIR)
	$(Q)$(INSTALL) -m 0755 deploy/actions/*.sh $(DESTDIR)$(LIBEXECDIR)
	$(Q)$(INSTALL) -m 0644 deploy/logrotate/sipkeep $(DESTDIR)$(DOCDIR)/logrotate
	$(Q)if [ -e $(DESTDIR)$(CONFDIR)/sipkeep.conf ]; then \
		echo "  kept    $(DESTDIR)$(CONFDIR)/sipkeep.conf (the sample is in $(DOCDIR))"; \
	else \
		echo "  INSTALL $(DESTDIR)$(CONFDIR)/sipkeep.conf"; \
		$(INSTALL) -D -m 0644 deploy/sipkeep.conf $(DESTDIR)$(CONFDIR)/sipkeep.conf; \
	fi
	@[ -n "$(DESTDIR)" ] || echo "Next: look through $(CONFDIR)/sipkeep.conf, then" \
		"systemctl daemon-reload && systemctl enable --now sipkeep"

# Whatever is loaded would stay loaded, with no command left to remove it.
uninstall: ## remove what install put there, but the config
	@if [ -z "$(DESTDIR)" ] && [ -n "$$(ls -A /sys/fs/bpf/sipkeep 2>/dev/null)" ]; then \
		echo "sipkeep is loaded: systemctl disable --now sipkeep; sipkeep unload" >&2; exit 1; fi
	$(Q)rm -f $(DESTDIR)$(SBINDIR)/sipkeep $(DESTDIR)$(UNITDIR)/sipkeep.service
	$(Q)rm -rf $(DESTDIR)$(DOCDIR) $(DESTDIR)$(LIBEXECDIR)
	@[ ! -e $(DESTDIR)$(CONFDIR)/sipkeep.conf ] || echo "  kept    $(DESTDIR)$(CONFDIR)/sipkeep.conf"

# ---- the house

SCRIPTS = tests/run tests/lib/inside tests/lib/packages tests/lib/info tests/lib/lib.sh .ci/run \
	tests/lib/lint tests/pbx/root tests/vm/run tests/vm/kernel tests/vm/boot tests/vm/init tests/vm/guest \
	$(wildcard deploy/*/*.sh tests/*/*.sh tests/*/*.bash)

format: ## clang-format the C code
	$(Q)$(CLANG_FORMAT) -i $(wildcard include/*.h bpf/*.[ch] user/*.[ch] tests/*/*.[ch])

lint: ## shellcheck, and trailing blanks
	$(Q)tests/lib/lint $(sort $(SCRIPTS))

clean: ## remove build/
	$(Q)rm -rf build

help: ## this list
	@echo "make TARGET [V=1]"
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14 | sed 's/^/  /'

-include $(wildcard $(O)/bpf/*.d $(O)/user/*.d $(O)/unit/*.d $(O)/unit/user/*.d)
