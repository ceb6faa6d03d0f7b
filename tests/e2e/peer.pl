#!/usr/bin/perl
# peer.pl: both ends of TCP connections whose ends and sizes are known to the byte. perl-base is all it needs.
#
#   peer.pl serve ADDR PORT                  one connection after the other, each as its client asks
#   peer.pl call ADDR PORT HOW N M [HOLD]    sends N bytes (40 or more), gets M; HOW it ends, after HOLD seconds of silence:
#       client_fin  server_fin  client_rst  server_rst
#       half        the client's FIN comes before the server's M bytes
#       reuse       AF_UNSPEC, and the same socket once more, which then ends as client_fin
#   peer.pl open ADDR PORT COUNT             opens COUNT, says so, and keeps them until stdin ends
# call prints the client's port, for reuse both.
use strict;
use warnings;
use Socket qw(:all);

$| = 1;
my ($mode, $addr, $port, @rest) = @ARGV;
my $v6 = $addr =~ /:/;
my $family = $v6 ? AF_INET6 : AF_INET;
my $to = $v6 ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $addr)) : pack_sockaddr_in($port, inet_pton(AF_INET, $addr));

sub client {
	socket(my $s, $family, SOCK_STREAM, 0) or die "socket: $!\n";
	return $s;
}

sub take {
	my ($s, $length) = @_;
	my $got = '';
	while (length $got < $length) {
		my $n = sysread($s, $got, $length - length $got, length $got);
		die "read: $!\n" unless defined $n;
		die "closed after " . length($got) . " of $length bytes\n" unless $n;
	}
	return $got;
}

sub give {
	my ($s, $data) = @_;
	while (length $data) {
		my $n = syswrite($s, $data) or die "write: $!\n";
		substr($data, 0, $n) = '';
	}
}

sub until_eof {
	my $n = sysread($_[0], my $rest, 4096);
	die "more than expected: $n bytes\n" if $n;
	return defined $n; # a RST: false
}

sub reset_close {
	setsockopt($_[0], SOL_SOCKET, SO_LINGER, pack('ii', 1, 0)) or die "SO_LINGER: $!\n";
	close $_[0];
}

sub port_of {
	return (unpack_sockaddr(getsockname($_[0])))[0];
}

sub unpack_sockaddr {
	return $v6 ? unpack_sockaddr_in6($_[0]) : unpack_sockaddr_in($_[0]);
}

sub pause {
	select(undef, undef, undef, $_[0]);
}

sub answer {
	my ($s) = @_;
	my ($how, $n, $m, $hold) = split ' ', take($s, 40);
	take($s, $n - 40);
	if ($how eq 'half') {
		until_eof($s) or die "a RST instead of a FIN\n";
		give($s, 'm' x $m);
		close $s;
		return;
	}
	give($s, 'm' x $m);
	if ($how eq 'server_fin' || $how eq 'server_rst') {
		take($s, 1); # it has everything
		pause($hold);
		$how eq 'server_rst' ? reset_close($s) : shutdown($s, 1);
	}
	until_eof($s) if $how ne 'server_rst';
	close $s;
}

sub call {
	my ($how, $n, $m, $hold, $s) = @_;
	$s = client() unless $s;
	connect($s, $to) or die "connect: $!\n";
	print port_of($s), "\n";
	my $end = $how eq 'reuse' ? 'client_rst' : $how;
	my $extra = $how =~ /^server/ ? 1 : 0;
	my $head = sprintf '%-40s', "$end " . ($n - $extra) . " $m $hold";
	give($s, $head . 'n' x ($n - $extra - 40));
	shutdown($s, 1) if $how eq 'half';
	take($s, $m);
	give($s, 'x') if $extra;
	if ($how =~ /^server/) {
		my $fin = until_eof($s);
		die "not the end it asked for\n" if $fin != ($how eq 'server_fin');
	} elsif ($how eq 'half') {
		until_eof($s) or die "a RST instead of a FIN\n";
	} else {
		pause($hold);
	}
	if ($how eq 'reuse') {
		connect($s, pack('S x14', AF_UNSPEC)) or die "AF_UNSPEC: $!\n";
		return call('client_fin', $n, $m, $hold, $s);
	}
	$how eq 'client_rst' ? reset_close($s) : close $s;
}

if ($mode eq 'serve') {
	my $listener = client();
	setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, 1);
	setsockopt($listener, IPPROTO_IPV6, IPV6_V6ONLY, 0) if $v6;
	bind($listener, $to) or die "bind: $!\n";
	listen($listener, 4096) or die "listen: $!\n";
	print "listening\n";
	while (1) {
		accept(my $s, $listener) or next;
		eval { answer($s); 1 } or print STDERR "peer.pl: serve: $@";
	}
} elsif ($mode eq 'call') {
	call($rest[0], $rest[1], $rest[2], $rest[3] || 0);
} elsif ($mode eq 'open') {
	my @all;
	for (1 .. $rest[0]) {
		my $s = client();
		connect($s, $to) or die "connect: $!\n";
		push @all, $s;
	}
	print "open\n";
	1 while sysread(STDIN, my $nothing, 100);
}
