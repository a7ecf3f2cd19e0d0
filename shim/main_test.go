package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The tests start the executable as a runtime does: this test binary, started again with the mark below, is the executable.
const (
	executableMark = "TEST_AS_EXECUTABLE"
	shortTimeout   = "TEST_TIMEOUT"
	absence        = "TEST_ABSENCE"
	agentSocket    = "TEST_SOCKET"
)

func TestMain(m *testing.M) {
	if os.Getenv(executableMark) == "" {
		os.Exit(m.Run())
	}
	if timeout, err := time.ParseDuration(os.Getenv(shortTimeout)); err == nil {
		callTimeout, statusTimeout = timeout, timeout/2
	}
	if timeout, err := time.ParseDuration(os.Getenv(absence)); err == nil {
		absentTimeout = timeout
	}
	nodeSocket = func() (string, error) { return os.Getenv(agentSocket), nil }
	main()
}

// socketSaid finds the socket in a configuration: the tests' agents listen where their configurations say.
var socketSaid = regexp.MustCompile(`ipam_unix_socket_path" *: *"([^"]+)`)

// request is the body that the agent gets.
type request struct {
	Plugin string            `json:"plugin"`
	Env    map[string]string `json:"env"`
	Config json.RawMessage   `json:"config"`
}

// outcome is what a runtime sees of a call.
type outcome struct {
	exitCode       int
	stdout, stderr string
}

// failure is a CNI error as a runtime reads it.
type failure struct {
	CNIVersion string `json:"cniVersion"`
	Code       int    `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details"`
}

func equal[T any](t *testing.T, expected, actual T) {
	t.Helper()
	if !reflect.DeepEqual(expected, actual) {
		t.Errorf("\nexpected %#v\nactual   %#v", expected, actual)
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not contain %q", text, part)
		}
	}
}

// socketPath gives a short path: the kernel allows 107 bytes.
func socketPath(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "shim")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return filepath.Join(folder, "agent.sock")
}

func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	socket := socketPath(t)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener, socket
}

// serve starts an agent and gives its socket.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	listener, socket := listen(t)
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return socket
}

// serveRaw starts an agent that treats each connection as told, and then closes it.
func serveRaw(t *testing.T, treat func(net.Conn)) string {
	t.Helper()
	listener, socket := listen(t)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				treat(conn)
			}()
		}
	}()
	return socket
}

// readRequest takes the whole request off a raw connection.
func readRequest(conn net.Conn) {
	var seen []byte
	chunk := make([]byte, 4096)
	for !bytes.HasSuffix(seen, []byte("}")) {
		n, err := conn.Read(chunk)
		if err != nil {
			return
		}
		seen = append(seen, chunk[:n]...)
	}
}

// agent answers every call with the same text and hands out what it was asked.
func agent(t *testing.T, exitCode int, output string) (string, <-chan request) {
	t.Helper()
	asked := make(chan request, 8)
	socket := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var body request
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Errorf("the body is no JSON: %v", err)
		}
		asked <- body
		_ = json.NewEncoder(w).Encode(map[string]any{"exitCode": exitCode, "output": output})
	})
	return socket, asked
}

// environment is what a runtime sets for a verb, and nothing else.
func environment(verb string) []string {
	return []string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=c0ffee", "CNI_NETNS=/var/run/netns/absent", "CNI_IFNAME=eth0",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=web-0", "CNI_PATH=/opt/cni/bin", "PATH=/usr/bin",
	}
}

func configuration(cniVersion, socket string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":"blue","type":"macvlan","ipam":{"type":"spiderpool","ipam_unix_socket_path":%q}}`,
		cniVersion, socket)
}

func command(ctx context.Context, name string, env []string, stdin io.Reader) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	var stdout, stderr bytes.Buffer
	if text, whole := stdin.(*strings.Reader); whole { // a pipe may never end
		config, _ := io.ReadAll(text)
		if said := socketSaid.FindSubmatch(config); said != nil {
			env = append([]string{agentSocket + "=" + string(said[1])}, env...)
		}
		stdin = bytes.NewReader(config)
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args[0] = name
	cmd.Env = append([]string{executableMark + "=1"}, env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	return cmd, &stdout, &stderr
}

// execute runs the executable under a name and gives what it left.
func execute(t *testing.T, name string, env []string, stdin io.Reader) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd, stdout, stderr := command(ctx, name, env, stdin)
	err := cmd.Run()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// refusal runs a call that has to fail by the CNI rules: exit code 1 and one error object on standard output.
func refusal(t *testing.T, name string, env []string, stdin string) failure {
	t.Helper()
	result := execute(t, name, env, strings.NewReader(stdin))
	equal(t, 1, result.exitCode)
	var read failure
	if err := json.Unmarshal([]byte(result.stdout), &read); err != nil {
		t.Fatalf("standard output is no CNI error: %q", result.stdout)
	}
	return read
}

// Each verb reaches the agent with plugin, environment and configuration, and its answer comes out.
func TestEveryVerbIsRelayed(t *testing.T) {
	for _, verb := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS"} {
		t.Run(verb, func(t *testing.T) {
			socket, asked := agent(t, 0, "said for "+verb)
			config := configuration("1.1.0", socket)
			result := execute(t, "/opt/cni/bin/spiderpool", environment(verb), strings.NewReader(config))
			equal(t, outcome{0, "said for " + verb, ""}, result)
			equal(t, request{
				Plugin: "spiderpool",
				Env: map[string]string{
					"CNI_COMMAND": verb, "CNI_CONTAINERID": "c0ffee", "CNI_NETNS": "/var/run/netns/absent", "CNI_IFNAME": "eth0",
					"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web-0", "CNI_PATH": "/opt/cni/bin", "PATH": "/usr/bin",
				},
				Config: json.RawMessage(config),
			}, <-asked)
		})
	}
}

// The request is a POST of JSON that asks to close the connection.
func TestRequestForm(t *testing.T) {
	type form struct {
		method, path, contentType, proto string
		closes                           bool
	}
	seen := make(chan form, 1)
	socket := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- form{r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.Proto, r.Close}
		_, _ = io.WriteString(w, `{"exitCode":0,"output":""}`)
	})
	execute(t, "spiderpool", environment("ADD"), strings.NewReader(configuration("1.0.0", socket)))
	equal(t, form{"POST", "/v1/cni", "application/json", "HTTP/1.1", true}, <-seen)
}

// Only CNI variables and PATH travel, an empty one too.
func TestEnvironmentIsFiltered(t *testing.T) {
	socket, asked := agent(t, 0, "")
	env := []string{
		"CNI_COMMAND=STATUS", "CNI_PATH=/opt/cni/bin", "CNI_ARGS=", "CNI_NETNS_OVERRIDE=1", "PATH=/bin", "HOME=/root", "XCNI_A=1",
	}
	execute(t, "coordinator", env, strings.NewReader(configuration("1.1.0", socket)))
	equal(t, map[string]string{
		"CNI_COMMAND": "STATUS", "CNI_PATH": "/opt/cni/bin", "CNI_ARGS": "", "CNI_NETNS_OVERRIDE": "1", "PATH": "/bin",
	}, (<-asked).Env)
}

// The base name of argv[0] is the plugin.
func TestNameIsThePlugin(t *testing.T) {
	for _, name := range []string{"spiderpool", "coordinator", "ifacer", "spiderpool-multus"} {
		for _, started := range []string{name, "/opt/cni/bin/" + name, "./" + name} {
			socket, asked := agent(t, 0, "")
			execute(t, started, environment("DEL"), strings.NewReader(configuration("1.0.0", socket)))
			equal(t, name, (<-asked).Plugin)
		}
	}
}

// VERSION answers alone, with the versions of the name, whatever stands on standard input.
func TestVersion(t *testing.T) {
	all := []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}
	for name, expected := range map[string][]string{
		"spiderpool": all[2:], "coordinator": all, "ifacer": all, "spiderpool-multus": all,
	} {
		for _, stdin := range []string{"", "no JSON", `{"cniVersion":"1.0.0"}`} {
			result := execute(t, name, []string{"CNI_COMMAND=VERSION"}, strings.NewReader(stdin))
			var said struct {
				CNIVersion        string
				SupportedVersions []string
			}
			if err := json.Unmarshal([]byte(result.stdout), &said); err != nil {
				t.Fatal(err)
			}
			equal(t, 0, result.exitCode)
			equal(t, "1.1.0", said.CNIVersion)
			equal(t, expected, said.SupportedVersions)
		}
	}
}

// Started by hand it introduces itself on standard error and does not wait for input.
func TestAbout(t *testing.T) {
	for name, expected := range map[string]string{
		"spiderpool": "Spiderpool IPAM unreleased\n", "coordinator": "Coordinator\n", "ifacer": "Subvlan\n",
		"spiderpool-multus": "spiderpool-multus unreleased\n",
	} {
		reader, writer, err := os.Pipe() // never closed: a terminal
		if err != nil {
			t.Fatal(err)
		}
		result := execute(t, name, nil, reader)
		_, _ = reader.Close(), writer.Close()
		equal(t, 0, result.exitCode)
		equal(t, "", result.stdout)
		equal(t, true, strings.HasPrefix(result.stderr, expected))
		contains(t, result.stderr, "CNI protocol versions supported: ")
	}
}

// The agent's text and exit code come out unchanged, errors included.
func TestAnswerIsVerbatim(t *testing.T) {
	for _, output := range []string{"", "{}", " {\n\t\"a\": \"<ü\u2028>\" }  \n\n", "no JSON", strings.Repeat("x", 1<<20)} {
		for _, exitCode := range []int{0, 1, 255} {
			socket, _ := agent(t, exitCode, output)
			result := execute(t, "spiderpool", environment("ADD"), strings.NewReader(configuration("1.0.0", socket)))
			equal(t, outcome{exitCode, output, ""}, result)
		}
	}
}

// An answer may come in chunks and after an interim response: both are HTTP/1.1.
func TestChunkedAnswer(t *testing.T) {
	socket := serveRaw(t, func(conn net.Conn) {
		readRequest(conn)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+
			"d\r\n{\"exitCode\":0\r\n10\r\n,\"output\":\"done\"\r\n1\r\n}\r\n0\r\n\r\n")
	})
	result := execute(t, "spiderpool", environment("ADD"), strings.NewReader(configuration("1.0.0", socket)))
	equal(t, outcome{0, "done", ""}, result)
}

// The configuration arrives byte for byte: order, blanks, big numbers, unknown keys, and far more than a pipe holds.
func TestConfigIsVerbatim(t *testing.T) {
	socket := socketPath(t)
	for _, extra := range []string{
		`"z":1, "a" : 123456789012345678901234567890, "b":1.0, "c":"<&>\u00e9é", "a":null`,
		`"big":"` + strings.Repeat("y", 4<<20) + `"`,
	} {
		config := fmt.Sprintf("\n{ \"cniVersion\":\"1.0.0\",\"name\":\"blue\",\"ipam_unix_socket_path\":%q,%s}", socket, extra)
		bodies := make(chan string, 1)
		listener, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			bodies <- string(body)
			_, _ = io.WriteString(w, `{"exitCode":0,"output":"ok"}`)
		})}
		go func() { _ = server.Serve(listener) }()
		equal(t, outcome{0, "ok", ""}, execute(t, "ifacer", environment("ADD"), strings.NewReader(config)))
		equal(t, true, strings.HasSuffix(<-bodies, `,"config":`+config+`}`))
		_ = server.Close()
	}
}

// A configuration decides nothing about the socket: one that names another than the agent's is refused, wherever it says so;
// DEL and GC of it go to the agent.
func TestSocketOfConfig(t *testing.T) {
	const other = `"/run/docker.sock", but the agent of this node listens at "/run/spidernet/a.sock"; remove it from the network's configuration`
	for config, complaint := range map[string]string{
		`{"ipam":{"ipam_unix_socket_path":"/run/docker.sock"}}`:                                                 "ipam.ipam_unix_socket_path is " + other,
		`{"ipam_unix_socket_path":"/run/docker.sock"}`:                                                          "ipam_unix_socket_path is " + other,
		`{"ipam":{"ipam_unix_socket_path":"/run/spidernet/a.sock"},"ipam_unix_socket_path":"/run/docker.sock"}`: "ipam_unix_socket_path is " + other,
		`{"ipam":{"ipam_unix_socket_path":"/run/spidernet/../docker.sock"}}`:                                    "/run/spidernet/../docker.sock",
		`{"ipam":{"ipam_unix_socket_path":"/run/spidernet/a.sock"}}`:                                            "",
		`{"ipam":{"ipam_unix_socket_path":"/var/run/spidernet/a.sock"}}`:                                        "",
		`{"ipam":{"ipam_unix_socket_path":""},"ipam_unix_socket_path":null}`:                                    "",
		`{"ipam":null}`:  "",
		`{"ipam":"odd"}`: "",
		`{}`:             "",
	} {
		for _, verb := range []string{"ADD", "CHECK", "STATUS"} {
			err := checkSocket(verb, []byte(config), "/run/spidernet/a.sock")
			equal(t, complaint != "", err != nil)
			if err != nil {
				contains(t, err.Error(), complaint)
			}
		}
		for _, verb := range []string{"DEL", "GC"} {
			equal(t, nil, checkSocket(verb, []byte(config), "/run/spidernet/a.sock"))
		}
	}
}

// Nothing is ever sent to a socket that a configuration names: the executable ends without a connection.
func TestForeignSocketGetsNothing(t *testing.T) {
	var calls atomic.Int32
	foreign := serveRaw(t, func(net.Conn) { calls.Add(1) })
	own := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"exitCode":0,"output":"own"}`)
	})
	for verb, exitCode := range map[string]int{"ADD": 1, "CHECK": 1, "STATUS": 1, "DEL": 0, "GC": 0} {
		// the last one counts: a process' own environment
		env := append(environment(verb), agentSocket+"="+own)
		result := execute(t, "spiderpool", env, strings.NewReader(configuration("1.1.0", foreign)))
		equal(t, exitCode, result.exitCode)
	}
	equal(t, 0, calls.Load())
}

// The agent's socket is what the file beside the executable says, else the well-known one.
func TestSocketOfNode(t *testing.T) {
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(executable), socketFile)
	t.Cleanup(func() { _ = os.Remove(file) })
	for _, expected := range []string{"/var/run/spidernet/spiderpool.sock", "/srv/agent.sock"} {
		socket, err := nodeSocket()
		equal(t, nil, err)
		equal(t, expected, socket)
		if err := os.WriteFile(file, []byte("/srv/agent.sock\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A socket path that is no string is the configuration's fault, named by its key.
func TestSocketOfWrongType(t *testing.T) {
	for config, key := range map[string]string{
		`{"cniVersion":"1.0.0","name":"n","ipam":{"ipam_unix_socket_path":7}}`:    "ipam.ipam_unix_socket_path is 7",
		`{"cniVersion":"1.0.0","name":"n","ipam_unix_socket_path":["/run/sock"]}`: `ipam_unix_socket_path is ["/run/sock"]`,
	} {
		said := refusal(t, "spiderpool", environment("ADD"), config)
		equal(t, failure{"1.0.0", 7, key + ", expected a string", ""}, said)
	}
}

// Without an agent every verb asks to try again later, and STATUS says that ADD cannot be served.
func TestAgentIsGone(t *testing.T) {
	missing := socketPath(t)
	refused := socketPath(t)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: refused, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	for socket, why := range map[string]string{missing: "no such file or directory", refused: "connection refused"} {
		for verb, code := range map[string]int{"ADD": 11, "DEL": 11, "CHECK": 11, "GC": 11, "STATUS": 50} {
			began := time.Now()
			said := refusal(t, "spiderpool", append(environment(verb), absence+"=300ms"), configuration("1.1.0", socket))
			equal(t, failure{"1.1.0", code, "unhealthy spiderpool-agent backend: no answer at " + socket + ": " + why +
				"; is the spiderpool-agent pod on this node running?", ""}, said)
			equal(t, verb != "STATUS", time.Since(began) >= 300*time.Millisecond)
		}
	}
}

// An agent that starts while a call waits for it gets the call, once: after a reboot pods start before it does.
func TestAgentComesBack(t *testing.T) {
	for _, verb := range []string{"ADD", "DEL"} {
		socket := socketPath(t)
		var calls atomic.Int32
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			_, _ = io.WriteString(w, `{"exitCode":0,"output":"late"}`)
		})}
		time.AfterFunc(250*time.Millisecond, func() {
			if listener, err := net.Listen("unix", socket); err == nil {
				_ = server.Serve(listener)
			}
		})
		result := execute(t, "spiderpool", environment(verb), strings.NewReader(configuration("1.0.0", socket)))
		equal(t, outcome{0, "late", ""}, result)
		equal(t, 1, calls.Load())
		_ = server.Close()
	}
}

// A connection that ends early is "try again later", in the version that was asked for.
func TestConnectionBreaks(t *testing.T) {
	for name, treat := range map[string]func(net.Conn){
		"at once":       func(net.Conn) {},
		"after request": readRequest,
		"in the header": func(conn net.Conn) { readRequest(conn); _, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-") },
		"in the body": func(conn net.Conn) {
			readRequest(conn)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{\"exitCode\":0,\"output\":\"\"}")
		},
	} {
		t.Run(name, func(t *testing.T) {
			socket := serveRaw(t, treat)
			said := refusal(t, "spiderpool", environment("ADD"), configuration("0.3.1", socket))
			equal(t, failure{"0.3.1", 11, said.Msg, ""}, said)
			contains(t, said.Msg, "unhealthy spiderpool-agent backend: no answer at "+socket+": ", "is the spiderpool-agent pod on this node running?")
		})
	}
}

// An answer of another form is never taken for success.
func TestAnswerOfOtherForm(t *testing.T) {
	for _, text := range []string{
		"", "null", "[]", `"ok"`, "{}", `{"exitCode":0}`, `{"output":"x"}`, `{"exitCode":"0","output":"x"}`,
		`{"exitCode":-1,"output":"x"}`, `{"exitCode":256,"output":"x"}`, `{"exitCode":0,"output":{}}`,
		`{"exitCode":0,"output":"x"}{}`, `{"exitCode":0,"output":null}`,
	} {
		socket := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
		said := refusal(t, "spiderpool", environment("DEL"), configuration("1.0.0", socket))
		excerpt := text
		if excerpt == "" {
			excerpt = "nothing"
		}
		equal(t, failure{"1.0.0", 11, "unhealthy spiderpool-agent backend: no usable answer at " + socket + ": it said " + excerpt +
			", expected an object with exitCode (0 to 255) and output; see the log of the spiderpool-agent pod on this node", ""}, said)
	}
}

// A peer that speaks no HTTP is no agent.
func TestNoHTTP(t *testing.T) {
	socket := serveRaw(t, func(conn net.Conn) { readRequest(conn); _, _ = io.WriteString(conn, "220 mail ready\r\n\r\n") })
	said := refusal(t, "spiderpool", environment("STATUS"), configuration("1.1.0", socket))
	equal(t, 50, said.Code)
	contains(t, said.Msg, socket, "malformed HTTP")
}

// An HTTP error is no answer, even with an answer's body; its text is shown, cut to a bearable length.
func TestHTTPError(t *testing.T) {
	for _, status := range []int{201, 204, 302, 404, 422, 500, 503} {
		socket := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"exitCode":0,"output":"`+strings.Repeat("long ", 100)+`"}`)
		})
		said := refusal(t, "spiderpool", environment("ADD"), configuration("1.0.0", socket))
		equal(t, 11, said.Code)
		contains(t, said.Msg, fmt.Sprintf("it said %d %s: ", status, http.StatusText(status)))
		equal(t, true, len(said.Msg) < 500)
	}
}

// An agent that refuses a large request before it has read it is quoted, not reported as broken.
func TestEarlyRefusal(t *testing.T) {
	socket := serveRaw(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\nContent-Length: 7\r\n\r\ntoo big")
	})
	config := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"n","ipam_unix_socket_path":%q,"x":%q}`, socket, strings.Repeat("x", 8<<20))
	said := refusal(t, "spiderpool", environment("ADD"), config)
	equal(t, 11, said.Code)
	contains(t, said.Msg, "it said 413 Request Entity Too Large: too big")
}

// An agent that takes the call and stays silent costs the time allowed and no more.
func TestTimeout(t *testing.T) {
	silent := make(chan struct{})
	t.Cleanup(func() { close(silent) })
	for verb, expected := range map[string]failure{
		"ADD": {"1.1.0", 11, "0.4 s", ""}, "DEL": {"1.1.0", 11, "0.4 s", ""}, "CHECK": {"1.1.0", 11, "0.4 s", ""},
		"GC": {"1.1.0", 11, "0.4 s", ""}, "STATUS": {"1.1.0", 50, "0.2 s", ""},
	} {
		for _, early := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"} {
			socket := serveRaw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, early); <-silent })
			env := append(environment(verb), shortTimeout+"=400ms")
			said := refusal(t, "spiderpool", env, configuration("1.1.0", socket))
			expected := expected
			expected.Msg = "unhealthy spiderpool-agent backend: no answer at " + socket + ": no answer within " + expected.Msg +
				"; is the spiderpool-agent pod on this node running?"
			equal(t, expected, said)
		}
	}
}

// The time allowed is that of Spiderpool's own client, and short for STATUS.
func TestTimeAllowed(t *testing.T) {
	for verb, expected := range map[string]time.Duration{
		"ADD": 100 * time.Second, "DEL": 100 * time.Second, "CHECK": 100 * time.Second, "GC": 100 * time.Second, "STATUS": 5 * time.Second,
	} {
		equal(t, expected, timeoutOf(verb))
	}
}

// A full backlog is waited for: a burst of pods must not fail because the agent accepts a moment later.
func TestFullBacklog(t *testing.T) {
	socket := socketPath(t)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: socket}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), socket)
	listener, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	t.Cleanup(func() { _ = listener.Close() })
	var waiting []net.Conn
	for {
		conn, err := net.Dial("unix", socket)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, conn)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"exitCode":0,"output":"in the end"}`)
	})}
	t.Cleanup(func() { _ = server.Close() })
	time.AfterFunc(300*time.Millisecond, func() { _ = server.Serve(listener) })
	started := time.Now()
	result := execute(t, "spiderpool", environment("ADD"), strings.NewReader(configuration("1.0.0", socket)))
	equal(t, outcome{0, "in the end", ""}, result)
	equal(t, true, time.Since(started) >= 250*time.Millisecond)
	for _, conn := range waiting {
		_ = conn.Close()
	}
}

// When the runtime kills the executable, the agent sees the connection close while it works.
func TestKilledCallIsSeenByTheAgent(t *testing.T) {
	arrived, left := make(chan struct{}), make(chan struct{})
	socket := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		close(arrived)
		<-r.Context().Done()
		close(left)
	})
	ctx, kill := context.WithCancel(context.Background())
	cmd, _, _ := command(ctx, "spiderpool", environment("ADD"), strings.NewReader(configuration("1.0.0", socket)))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-arrived
	select {
	case <-left:
		t.Error("the connection closed although the call still waits")
	case <-time.After(100 * time.Millisecond):
	}
	kill()
	_ = cmd.Wait()
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Error("the agent did not see the connection close")
	}
}

// Missing variables are code 4 and named, all of them; nothing is asked of the agent.
func TestMissingEnvironment(t *testing.T) {
	socket, asked := agent(t, 0, "")
	for verb, missing := range map[string]string{
		"ADD":    "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH",
		"CHECK":  "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH",
		"DEL":    "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH",
		"GC":     "CNI_PATH",
		"STATUS": "CNI_PATH",
	} {
		said := refusal(t, "spiderpool", []string{"CNI_COMMAND=" + verb}, configuration("1.1.0", socket))
		equal(t, failure{"1.1.0", 4, "required env variables [" + missing + "] missing", ""}, said)
		equal(t, 4, refusal(t, "spiderpool", []string{"CNI_COMMAND=" + verb}, "").Code)
	}
	equal(t, 4, refusal(t, "spiderpool", environment("EXPLODE"), configuration("1.1.0", socket)).Code)
	equal(t, 0, len(asked))
}

// Input that is no JSON object is code 6, whatever the verb.
func TestInputOfOtherForm(t *testing.T) {
	for _, stdin := range []string{
		"", " ", "no JSON", "null", " null\n", "[]", "7", `"text"`, `{"name":"blue"`, `{"name":"blue"}{}`, `{"name":7}`,
		`{"name":"blue","cniVersion":7}`, "{\"name\":\"blue\",\"cniVersion\":\"1.1.0\",\"x\":\"\xff\"}",
	} {
		for _, verb := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS"} {
			said := refusal(t, "spiderpool", environment(verb), stdin)
			if said.Code != 6 {
				t.Errorf("%s of %q: expected code 6, got %+v", verb, stdin, said)
			}
		}
	}
}

// A configuration without a name, or with an impossible one, is code 7.
func TestNetworkName(t *testing.T) {
	for _, stdin := range []string{`{}`, `{"cniVersion":"1.0.0"}`} {
		equal(t, 7, refusal(t, "spiderpool", environment("ADD"), stdin).Code)
	}
	equal(t, "1.0.0", refusal(t, "spiderpool", environment("ADD"), `{"cniVersion":"1.0.0"}`).CNIVersion)
}

// A version outside the list of the name, and a verb younger than the version, are code 1, answered in that version.
func TestIncompatibleVersion(t *testing.T) {
	socket, asked := agent(t, 0, "")
	for _, c := range []struct{ name, verb, version string }{
		{"spiderpool", "ADD", "0.1.0"}, {"spiderpool", "DEL", "0.2.0"}, {"spiderpool", "ADD", "1.2.0"}, {"ifacer", "ADD", "9.0.0"},
		{"coordinator", "CHECK", "0.3.1"}, {"coordinator", "GC", "1.0.0"}, {"spiderpool-multus", "STATUS", "1.0.0"},
	} {
		said := refusal(t, c.name, environment(c.verb), configuration(c.version, socket))
		equal(t, failure{c.version, 1, said.Msg, said.Details}, said)
	}
	equal(t, 0, len(asked))
	execute(t, "coordinator", environment("ADD"), strings.NewReader(configuration("0.2.0", socket)))
	equal(t, "coordinator", (<-asked).Plugin)
	execute(t, "ifacer", environment("ADD"), strings.NewReader(fmt.Sprintf(`{"name":"old","ipam_unix_socket_path":%q}`, socket)))
	equal(t, "ifacer", (<-asked).Plugin) // no cniVersion: 0.1.0
}

// A call for the executable's own namespace fails with one error object, not with a result and an error.
func TestOwnNamespace(t *testing.T) {
	socket, _ := agent(t, 0, "a result")
	env := append(environment("ADD"), "CNI_NETNS=/proc/self/ns/net")
	said := refusal(t, "spiderpool", env, configuration("1.0.0", socket))
	equal(t, failure{"1.0.0", 8, said.Msg, ""}, said)
	result := execute(t, "spiderpool", append(env, "CNI_NETNS_OVERRIDE=1"), strings.NewReader(configuration("1.0.0", socket)))
	equal(t, outcome{0, "a result", ""}, result)
}

// An error of the agent's own comes out as the agent wrote it, also where skel would add a complaint.
func TestAgentErrorInOwnNamespace(t *testing.T) {
	rendered := `{"cniVersion":"1.0.0","code":110,"msg":"pool blue: 254 of 254 addresses held, none free"}`
	socket, _ := agent(t, 1, rendered)
	env := append(environment("ADD"), "CNI_NETNS=/proc/self/ns/net")
	result := execute(t, "spiderpool", env, strings.NewReader(configuration("1.0.0", socket)))
	equal(t, outcome{1, rendered, ""}, result)
}

// Standard output that nobody reads is a failed call with the reason on standard error.
func TestOutputCannotBeWritten(t *testing.T) {
	socket, _ := agent(t, 0, "a result")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd, _, stderr := command(context.Background(), "spiderpool", environment("ADD"), strings.NewReader(configuration("1.0.0", socket)))
	cmd.Stdout = full
	_ = cmd.Run()
	equal(t, 1, cmd.ProcessState.ExitCode())
	contains(t, stderr.String(), "standard output cannot be written: ", "no space left on device")
}
