// Package netpolicy decides what an instance may reach over the network and puts that decision into the kernel.
//
// It has two halves. The pure half turns [Rules] into tables: [Egress] is that of one isolated instance or
// [SharedEgress] that of all of them, [Guard] the one that covers all instances. A [Table] prints itself as nft syntax that `nft -f` accepts, so
// that plan, goldens and operators read the text that `nft list ruleset` shows. The other half, [Kernel], is the
// only netlink code of the project: it reads tables back into the same model, compares ([Diff]), and writes what differs.
//
// Four rules hold everywhere:
//
//   - Packets are matched positively, by the numeric UID of the socket that sends them, which is that of the process
//     that made the socket. A packet without a socket (neighbour discovery, resets, forwarded traffic) breaks
//     "meta skuid" and so is never touched; the negative form "meta skuid != UID accept" would drop it. Neither is
//     one of a socket that its program has closed, see block.
//   - A table is changed in one netlink batch, in such an order that no packet sees a half-written policy and that
//     no count of blocked packets is lost (see [Kernel.Ensure]).
//   - Only tables that carry the marker (see [Table]) are ever changed or deleted.
//   - What was written is read back and compared: the kernel's word counts, not the absence of an error.
//
// The package never looks up accounts, never reads the inventory, never logs and takes no lock against other
// processes. Its neighbours: package instance parses and warns about what the operator wrote, package host resolves
// the UID, calls Ensure before a unit starts and holds the host lock, package sandbox writes the IPAddressDeny layer
// that systemd enforces beside this one.
package netpolicy
