#!/usr/bin/perl
# silence.pl: both ends of one TCP connection over 127.0.0.1, and silence on it. perl-base is all it needs.
#
#   silence.pl pings PORT N SECONDS   a message each way, then N times SECONDS of silence and a ping each way, and close()
#   silence.pl data PORT SECONDS      the server's end vanishes without a word; after SECONDS the client sends data
#   silence.pl probe PORT SECONDS     the same, and the client's keepalive asks after SECONDS
# Prints the milliseconds from the last message to the end.
use strict;
use warnings;
use Socket qw(:all);
use Time::HiRes qw(time);

$| = 1;
my ($mode, $port, @rest) = @ARGV;
my $to = pack_sockaddr_in($port, inet_aton('127.0.0.1'));

sub pass {
	my ($from, $to, $data) = @_;
	syswrite($from, $data) == length $data or die "write: $!\n";
	for (my $got = 0; $got < length $data;) {
		my $n = sysread($to, my $part, 4096) or die "read: $!\n";
		$got += $n;
	}
}

socket(my $listener, AF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, 1) or die "SO_REUSEADDR: $!\n";
bind($listener, $to) && listen($listener, 1) or die "listening on $port: $!\n";
socket(my $client, AF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
connect($client, $to) && accept(my $server, $listener) or die "connect: $!\n";
pass($client, $server, 'm' x 400);
pass($server, $client, 'm' x 300);
my $last = time;
if ($mode eq 'pings') {
	my ($n, $seconds) = @rest;
	for (1 .. $n) {
		select(undef, undef, undef, $seconds);
		pass($client, $server, "\r\n\r\n");
		pass($server, $client, "\r\n");
	}
	print int((time - $last) * 1000), "\n";
	close $client;
} else {
	my ($seconds) = @rest;
	# TCP_REPAIR: close() sends nothing.
	setsockopt($server, IPPROTO_TCP, 19, 1) or die "TCP_REPAIR: $!\n";
	close $server;
	if ($mode eq 'probe') {
		setsockopt($client, IPPROTO_TCP, TCP_KEEPIDLE, 0 + $seconds) or die "TCP_KEEPIDLE: $!\n";
		setsockopt($client, SOL_SOCKET, SO_KEEPALIVE, 1) or die "SO_KEEPALIVE: $!\n";
	} else {
		select(undef, undef, undef, $seconds);
		syswrite($client, 'are you there?') or die "write: $!\n";
	}
	print int((time - $last) * 1000), "\n" if $mode eq 'data';
	defined sysread($client, my $nothing, 1) and die "no RST\n";
	print int((time - $last) * 1000), "\n" if $mode eq 'probe';
}
