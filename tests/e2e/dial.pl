#!/usr/bin/perl
# dial.pl: phones that hang up, and a PBX that calls them back at the address and port they had. perl-base is all it needs.
#
#   dial.pl phones ADDR PORT FROM FIRST COUNT   opens COUNT connections from FROM, ports FIRST and on, says so, and closes
#                                               them when stdin ends
#   dial.pl call ADDR FIRST COUNT [TIMES]       connect() to ADDR, ports FIRST and on, one after the other, all of it TIMES;
#                                               prints what came of them, as in "ECONNREFUSED 3"
#   dial.pl hold ADDR PORT                      connect() without waiting for it; says so, and gives up when stdin ends
#   dial.pl hasty ADDR PORT                     gives up at once: prints "at once", or "late" when a SYN may have been repeated
#   dial.pl hole NAME                           a TUN device from which nothing comes back
#   dial.pl mirror NAME                         one that gives back what is sent through it
use strict;
use warnings;
use Errno;
use Fcntl;
use Socket qw(:all);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

$| = 1;
my ($mode, $addr, @rest) = @ARGV;
my $family = $addr =~ /:/ ? AF_INET6 : AF_INET;

sub name_of {
	my ($addr, $port) = @_;
	return $family == AF_INET6 ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $addr)) :
		pack_sockaddr_in($port, inet_pton(AF_INET, $addr));
}

sub tcp {
	socket(my $s, $family, SOCK_STREAM, 0) or die "socket: $!\n";
	return $s;
}

sub until_eof {
	1 while sysread(STDIN, my $nothing, 100);
}

sub begun {
	my $s = tcp();
	fcntl($s, F_SETFL, O_NONBLOCK) or die "O_NONBLOCK: $!\n";
	die "connect: $!\n" if connect($s, name_of($addr, $rest[0])) || !$!{EINPROGRESS};
	return $s;
}

if ($mode eq 'phones') {
	my ($port, $from, $first, $count) = @rest;
	my @all;
	for my $own ($first .. $first + $count - 1) {
		my $s = tcp();
		setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
		bind($s, name_of($from, $own)) or die "bind to port $own: $!\n";
		connect($s, name_of($addr, $port)) or die "connect from port $own: $!\n";
		push @all, $s;
	}
	print "open\n";
	until_eof();
} elsif ($mode eq 'call') {
	my ($first, $count, $times) = @rest;
	my %became;
	for (1 .. $times || 1) {
		for my $port ($first .. $first + $count - 1) {
			my $error = connect(my $s = tcp(), name_of($addr, $port)) ? 0 : $! + 0;
			$! = $error;
			my ($name) = $error ? grep { $!{$_} } qw(ECONNREFUSED ETIMEDOUT EHOSTUNREACH ENETUNREACH EPERM) : 'connected';
			$became{$name || $error}++;
		}
	}
	print "$_ $became{$_}\n" for sort keys %became;
} elsif ($mode eq 'hold') {
	my $s = begun();
	print "dialled\n";
	until_eof();
} elsif ($mode eq 'hasty') {
	my $start = clock_gettime(CLOCK_MONOTONIC);
	close(begun());
	print clock_gettime(CLOCK_MONOTONIC) - $start < 0.9 ? "at once\n" : "late\n";
} elsif ($mode eq 'mirror' || $mode eq 'hole') {
	my $tunsetiff = 0x400454ca;
	my $iff_tun_no_pi = 0x1001;
	open(my $tun, '+<:raw', '/dev/net/tun') or die "/dev/net/tun: $!\n";
	ioctl($tun, $tunsetiff, pack('Z16 S x22', $addr, $iff_tun_no_pi)) or die "TUNSETIFF: $!\n";
	print "there\n";
	while (sysread($tun, my $packet, 65536)) {
		syswrite($tun, $packet) if $mode eq 'mirror';
	}
}
