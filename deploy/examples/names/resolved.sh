# systemd-resolved, where the interface red is: asks this server for these domains, by "~" for no others, until the interface goes.
# Not by a .network file: networkd would take over the interface, and take its addresses off.
resolvectl dns red 10.60.0.1
resolvectl domain red '~red.vl3' '~60.10.in-addr.arpa'
resolvectl default-route red false
resolvectl dnssec red no
resolvectl llmnr red no
