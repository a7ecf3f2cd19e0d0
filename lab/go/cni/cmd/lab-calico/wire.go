package main

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/utils/sysctl"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	// Calico's own values: every host end has the same MAC address, so a pod's neighbour entry never goes stale.
	hostMAC = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	gateway = net.IPv4(169, 254, 1, 1).To4()
	// The link-local address that the kernel derives from hostMAC (RFC 4291, appendix A).
	gateway6 = net.ParseIP("fe80::ecee:eeff:feee:eeee")

	anywhere  = &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	anywhere6 = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
)

// hostName gives the host end's name: "cali" and 11 hex digits, as Calico's; derived from what a DEL also knows.
func hostName(containerID, ifName string) string {
	sum := sha1.Sum([]byte(containerID + "/" + ifName))
	return "cali" + hex.EncodeToString(sum[:])[:11]
}

func alone(ip net.IP) *net.IPNet {
	if v4 := ip.To4(); v4 != nil {
		return &net.IPNet{IP: v4, Mask: net.CIDRMask(32, 32)}
	}
	return &net.IPNet{IP: ip, Mask: net.CIDRMask(128, 128)}
}

func wire(args *skel.CmdArgs, conf *config, ips []net.IP) (*current.Result, error) {
	pod, err := ns.GetNS(args.Netns)
	if err != nil {
		return nil, err
	}
	defer pod.Close()
	host, err := makeVeth(pod, args, conf.MTU)
	if err != nil {
		return nil, err
	}
	if err := setUpHost(host, ips); err != nil {
		return nil, errors.Join(err, netlink.LinkDel(host))
	}
	var podMAC string
	err = pod.Do(func(ns.NetNS) error {
		podMAC, err = setUpPod(args.IfName, ips)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, netlink.LinkDel(host))
	}
	return render(args, conf, host, podMAC, ips), nil
}

func makeVeth(pod ns.NetNS, args *skel.CmdArgs, mtu int) (netlink.Link, error) {
	name := hostName(args.ContainerID, args.IfName)
	if old, err := netlink.LinkByName(name); err == nil {
		// A runtime that was killed repeats an ADD for the same container; its first pair is of no more use.
		if err := netlink.LinkDel(old); err != nil {
			return nil, err
		}
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.MTU, attributes.HardwareAddr = name, mtu, hostMAC
	veth := &netlink.Veth{LinkAttrs: attributes, PeerName: args.IfName, PeerNamespace: netlink.NsFd(int(pod.Fd()))}
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("lab-calico: veth %s to %s of %s: %w", name, args.IfName, args.Netns, err)
	}
	return netlink.LinkByName(name)
}

func setUpHost(host netlink.Link, ips []net.IP) error {
	name := host.Attrs().Name
	settings := map[string]string{
		"net/ipv4/conf/" + name + "/proxy_arp":            "1",
		"net/ipv4/conf/" + name + "/forwarding":           "1",
		"net/ipv4/neigh/" + name + "/proxy_delay":         "0",
		"net/ipv6/conf/" + name + "/proxy_ndp":            "1",
		"net/ipv6/conf/" + name + "/forwarding":           "1",
		"net/ipv6/conf/" + name + "/accept_dad":           "0",
		"net/ipv6/conf/" + name + "/accept_ra":            "0",
		"net/ipv6/conf/" + name + "/router_solicitations": "0",
	}
	for key, value := range settings {
		if _, err := sysctl.Sysctl(key, value); err != nil {
			return fmt.Errorf("lab-calico: %s: %w", key, err)
		}
	}
	if err := guard(name); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(host); err != nil {
		return err
	}
	for _, ip := range ips {
		route := &netlink.Route{LinkIndex: host.Attrs().Index, Dst: alone(ip), Scope: netlink.SCOPE_LINK}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("lab-calico: route to %s by %s: %w", ip, name, err)
		}
	}
	return nil
}

func setUpPod(ifName string, ips []net.IP) (string, error) {
	link, err := netlink.LinkByName(ifName)
	if err != nil {
		return "", err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return "", err
	}
	for _, ip := range ips {
		// Nobody else can have the address on this wire: without NODAD a v6 address is unusable for a second.
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: alone(ip), Flags: unix.IFA_F_NODAD}); err != nil {
			return "", fmt.Errorf("lab-calico: address %s on %s: %w", ip, ifName, err)
		}
	}
	for _, route := range podRoutes(link.Attrs().Index, ips) {
		if err := netlink.RouteAdd(&route); err != nil {
			return "", fmt.Errorf("lab-calico: route %v in the pod: %w", route, err)
		}
	}
	return link.Attrs().HardwareAddr.String(), nil
}

func podRoutes(index int, ips []net.IP) []netlink.Route {
	var routes []netlink.Route
	for _, ip := range ips {
		if ip.To4() != nil {
			routes = append(routes,
				netlink.Route{LinkIndex: index, Dst: alone(gateway), Scope: netlink.SCOPE_LINK},
				netlink.Route{LinkIndex: index, Dst: anywhere, Gw: gateway},
			)
		} else {
			routes = append(routes, netlink.Route{LinkIndex: index, Dst: anywhere6, Gw: gateway6})
		}
	}
	return routes
}

func render(args *skel.CmdArgs, conf *config, host netlink.Link, podMAC string, ips []net.IP) *current.Result {
	result := &current.Result{
		CNIVersion: conf.CNIVersion,
		Interfaces: []*current.Interface{
			{Name: host.Attrs().Name, Mac: hostMAC.String()},
			{Name: args.IfName, Mac: podMAC, Sandbox: args.Netns},
		},
	}
	for _, ip := range ips {
		configured := &current.IPConfig{Address: *alone(ip), Interface: current.Int(1)}
		if ip.To4() != nil {
			configured.Gateway = gateway
			result.Routes = append(result.Routes, &types.Route{Dst: *anywhere, GW: gateway})
		} else {
			configured.Gateway = gateway6
			result.Routes = append(result.Routes, &types.Route{Dst: *anywhere6, GW: gateway6})
		}
		result.IPs = append(result.IPs, configured)
	}
	return result
}

func unwire(args *skel.CmdArgs) error {
	// The host end is enough: the pod's end, its addresses and the host routes go with it, namespace or not.
	name := hostName(args.ContainerID, args.IfName)
	defer unguard(name)
	host, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(host)
}

func verify(pod ns.NetNS, ifName string, ips []net.IP) error {
	return pod.Do(func(ns.NetNS) error {
		link, err := netlink.LinkByName(ifName)
		if err != nil {
			return fmt.Errorf("lab-calico: %s: %w", ifName, err)
		}
		worn, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, ip := range ips {
			if !wears(worn, ip) {
				return fmt.Errorf("lab-calico: %s does not have %s", ifName, ip)
			}
		}
		return nil
	})
}

func wears(worn []netlink.Addr, ip net.IP) bool {
	for _, address := range worn {
		if address.IP.Equal(ip) {
			return true
		}
	}
	return false
}
