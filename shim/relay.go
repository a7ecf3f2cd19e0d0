package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/containernetworking/cni/pkg/types"
)

const (
	defaultSocket = "/var/run/spidernet/spiderpool.sock"
	// socketFile, beside the executable, has the path of the agent's socket where it is not the well-known one.
	socketFile = ".spiderpool-socket"
	// maxAnswer bounds what is read from the agent; a CNI result has a few kilobytes.
	maxAnswer = 16 << 20
	// backlogPause is the wait before another connect when the agent's backlog is full.
	backlogPause = 20 * time.Millisecond
	// absentPause is the wait before another connect when there is no agent.
	absentPause = 100 * time.Millisecond
)

// Time for a whole call, measured from its start. Variables, because tests shorten them.
var (
	callTimeout   = 100 * time.Second // as Spiderpool's own client
	statusTimeout = 5 * time.Second   // a status that takes longer is a bad status
	// After a reboot, or while it is exchanged for a new version, an agent is back within seconds. To fail before that is dear:
	// when ADD and the DEL after it both fail, containerd 1.6 keeps the sandbox's name, and the pod waits for a minute.
	absentTimeout = 10 * time.Second
)

// answer is what the agent says: text for standard output, and the exit code.
type answer struct {
	ExitCode int
	Output   string
}

// unusable is what an agent said that is no answer to a CNI call.
type unusable string

func (u unusable) Error() string { return string(u) }

// relay hands one call to the agent and gives its answer, or a CNI error that says why there is none.
func relay(plugin, command string, config []byte) (answer, error) {
	timeout := timeoutOf(command)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if !utf8.Valid(config) {
		return answer{}, types.NewError(types.ErrDecodingFailure, "network config is not valid UTF-8", "")
	}
	socket, err := nodeSocket()
	if err != nil {
		return answer{}, types.NewError(types.ErrIOFailure, err.Error(), "")
	}
	if err := checkSocket(command, config, socket); err != nil {
		return answer{}, types.NewError(types.ErrInvalidNetworkConfig, err.Error(), "")
	}
	body, err := encode(plugin, os.Environ(), config)
	if err != nil {
		return answer{}, err
	}
	reply, err := ask(ctx, socket, body, patience(command))
	if err != nil {
		return answer{}, types.NewError(unavailable(command), complaint(socket, err, timeout), "")
	}
	return reply, nil
}

func timeoutOf(command string) time.Duration {
	if command == "STATUS" {
		return statusTimeout
	}
	return callTimeout
}

// patience is how long a call waits for an agent that is not there. STATUS asks just that, and is told at once.
func patience(command string) time.Duration {
	if command == "STATUS" {
		return 0
	}
	return absentTimeout
}

// unavailable is the CNI code for an agent that cannot be asked.
func unavailable(command string) uint {
	if command == "STATUS" {
		return types.ErrPluginNotAvailable
	}
	return types.ErrTryAgainLater
}

// nodeSocket finds where this node's agent listens. A variable, because tests listen elsewhere.
//
// The agent says so when it installs the executable. A configuration does not decide it: whoever may make a network would
// have root send requests to any socket of the node.
var nodeSocket = func() (string, error) {
	executable, err := os.Executable()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(executable), socketFile))
	if errors.Is(err, os.ErrNotExist) {
		return defaultSocket, nil
	}
	return strings.TrimSpace(string(text)), err
}

// checkSocket refuses a configuration that names another socket than the agent's; what else it holds is the agent's to judge.
//
// DEL and GC are served even so: what was attached before the node's socket moved must go.
func checkSocket(command string, config []byte, socket string) error {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(config, &top); err != nil {
		return err
	}
	var ipam map[string]json.RawMessage
	_ = json.Unmarshal(top["ipam"], &ipam) // absent or of another form: no socket in there
	for _, place := range []struct {
		name  string
		value json.RawMessage
	}{
		{"ipam.ipam_unix_socket_path", ipam["ipam_unix_socket_path"]},
		{"ipam_unix_socket_path", top["ipam_unix_socket_path"]},
	} {
		if place.value == nil {
			continue
		}
		var said string
		if err := json.Unmarshal(place.value, &said); err != nil {
			return fmt.Errorf("%s is %s, expected a string", place.name, place.value)
		}
		if said != "" && !samePath(said, socket) && command != "DEL" && command != "GC" {
			return fmt.Errorf("%s is %q, but the agent of this node listens at %q; remove it from the network's configuration",
				place.name, said, socket)
		}
	}
	return nil
}

// samePath compares two paths; /var/run is a link to /run on every distribution.
func samePath(one, other string) bool {
	clean := func(path string) string { return strings.TrimPrefix(filepath.Clean(path), "/var") }
	return clean(one) == clean(other)
}

// encode renders the request's body; the configuration goes in as it came, byte for byte.
func encode(plugin string, environ []string, config []byte) ([]byte, error) {
	env := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if name == "PATH" || strings.HasPrefix(name, "CNI_") {
			env[name] = value
		}
	}
	head, err := json.Marshal(struct {
		Plugin string            `json:"plugin"`
		Env    map[string]string `json:"env"`
	}{plugin, env})
	if err != nil {
		return nil, err
	}
	body := append(head[:len(head)-1], `,"config":`...)
	return append(append(body, config...), '}'), nil
}

// ask sends the body and waits for the answer.
//
// The connection stays open, unshared, until the answer is there: when this process is killed the agent sees it close,
// and undoes what nobody waits for.
func ask(ctx context.Context, socket string, body []byte, patience time.Duration) (answer, error) {
	conn, err := connect(ctx, socket, patience)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return answer{}, err
	}
	request, err := http.NewRequest(http.MethodPost, "http://localhost/v1/cni", bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Close = true
	unsent := request.Write(conn)
	// Read even so: an agent that refuses a request early says why before it hangs up.
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return answer{}, errors.Join(unsent, err)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return answer{}, err
	}
	if response.StatusCode != http.StatusOK {
		return answer{}, unusable(fmt.Sprintf("%s: %s", response.Status, excerpt(text)))
	}
	return decode(text)
}

// connect dials, again and again while the agent's backlog is full, for many calls at once are no reason to fail, and for a
// while when there is no agent. Nothing has been sent by then, so nothing can happen twice.
func connect(ctx context.Context, socket string, patience time.Duration) (net.Conn, error) {
	began := time.Now()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		pause := backlogPause
		switch {
		case errors.Is(err, syscall.EAGAIN):
		case isAbsent(err) && time.Since(began) < patience:
			pause = absentPause
		default:
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// isAbsent tells an agent that does not run (yet) from a socket that cannot be used.
func isAbsent(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}

// decode reads the agent's answer; both keys are required, so that nothing else passes for one.
func decode(text []byte) (answer, error) {
	var reply struct {
		ExitCode *uint8  `json:"exitCode"`
		Output   *string `json:"output"`
	}
	if err := json.Unmarshal(text, &reply); err != nil || reply.ExitCode == nil || reply.Output == nil {
		return answer{}, unusable(excerpt(text) + ", expected an object with exitCode (0 to 255) and output")
	}
	return answer{int(*reply.ExitCode), *reply.Output}, nil
}

// excerpt gives the start of a text, on one line, for an error message.
func excerpt(text []byte) string {
	line := strings.Join(strings.Fields(string(text)), " ")
	if line == "" {
		return "nothing"
	}
	if runes := []rune(line); len(runes) > 200 {
		return string(runes[:200]) + "…"
	}
	return line
}

// complaint is the message of a call that got no answer: where, why, and what to look at.
func complaint(socket string, err error, timeout time.Duration) string {
	var said unusable
	if errors.As(err, &said) {
		return fmt.Sprintf("unhealthy spiderpool-agent backend: no usable answer at %s: it said %s; see the log of the spiderpool-agent pod on this node",
			socket, said)
	}
	return fmt.Sprintf("unhealthy spiderpool-agent backend: no answer at %s: %s; is the spiderpool-agent pod on this node running?",
		socket, cause(err, timeout))
}

// cause says in a few words why there is no answer; the socket is named elsewhere in the message.
func cause(err error, timeout time.Duration) string {
	var errno syscall.Errno
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %g s", timeout.Seconds())
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection ended before the answer"
	default:
		return err.Error()
	}
}
