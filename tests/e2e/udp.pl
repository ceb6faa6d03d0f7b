#!/usr/bin/perl
# udp.pl ADDR PORT [--reuseport] [--connect PORT]: a bound UDP socket, until it is ended. perl-base is all it needs.
use strict;
use warnings;
use Socket qw(:all);

$| = 1;
my ($addr, $port, @options) = @ARGV;
my $family = $addr =~ /:/ ? AF_INET6 : AF_INET;

sub name_of {
	return $family == AF_INET6 ? pack_sockaddr_in6($_[0], inet_pton(AF_INET6, $addr)) :
		pack_sockaddr_in($_[0], inet_pton(AF_INET, $addr));
}

socket(my $s, $family, SOCK_DGRAM, 0) or die "socket: $!\n";
while (my $option = shift @options) {
	if ($option eq '--reuseport') {
		setsockopt($s, SOL_SOCKET, SO_REUSEPORT, 1) or die "SO_REUSEPORT: $!\n";
	} elsif ($option eq '--connect') {
		bind($s, name_of($port)) or die "bind: $!\n";
		connect($s, name_of(shift @options)) or die "connect: $!\n";
		$port = undef;
	}
}
!defined $port or bind($s, name_of($port)) or die "bind: $!\n";
print "bound\n";
sleep while 1;
