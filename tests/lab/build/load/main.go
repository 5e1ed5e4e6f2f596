// Load for benchmarks: `load serve` answers HTTP, `load send` sends it over TLS. Both speak just enough
// HTTP/1.1 on plain sockets to cost little beside what is measured.
package main

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const answer = "HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{\"id\":\"m-0001\"}"

// head reads one message up to the end of its headers; returns its first line and the length of its body.
func head(reader *bufio.Reader) (string, int, error) {
	first, length := "", 0
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return "", 0, err
		}
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			return first, length, nil
		}
		if first == "" {
			first = text
			continue
		}
		name, value, _ := strings.Cut(text, ":")
		switch {
		case strings.EqualFold(name, "content-length"):
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return "", 0, err
			}
		case strings.EqualFold(name, "transfer-encoding"):
			return "", 0, errors.New("chunked messages are not read here")
		}
	}
}

func message(reader *bufio.Reader) (string, error) {
	first, length, err := head(reader)
	if err != nil {
		return "", err
	}
	_, err = reader.Discard(length)
	return first, err
}

func serve(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			reader := bufio.NewReader(connection)
			for {
				if _, err := message(reader); err != nil {
					return
				}
				if _, err := io.WriteString(connection, answer); err != nil {
					return
				}
			}
		}()
	}
}

const body = `{"to":"+447700900123","from":"ACME","text":"Your code is 123456. It is valid for ten minutes."}`

type sender struct {
	requests [][]byte
	secret   []byte // signs each request, if there is one
	next     atomic.Uint64
	until    time.Time
}

// signed adds time, nonce and an HMAC-SHA256 over them, method, path and the body's digest.
func (s *sender) signed(request []byte, number uint64) []byte {
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	nonce := fmt.Sprintf("%d-%d", s.until.UnixNano(), number)
	digest := sha256.Sum256([]byte(body))
	mac := hmac.New(sha256.New, s.secret)
	fmt.Fprintf(mac, "POST\n/v1/messages\n%s\n%s\n%s", stamp, nonce, hex.EncodeToString(digest[:]))
	line, rest, _ := bytes.Cut(request, []byte("\r\n"))
	return fmt.Appendf(nil, "%s\r\nx-timestamp: %s\r\nx-nonce: %s\r\nx-signature: %x\r\n%s",
		line, stamp, nonce, mac.Sum(nil), rest)
}

type outcome struct {
	latencies []time.Duration
	statuses  map[string]int
}

// run sends one request after the other on one connection until the time is over.
func (s *sender) run(connection net.Conn) (outcome, error) {
	found := outcome{statuses: map[string]int{}}
	reader := bufio.NewReader(connection)
	for time.Now().Before(s.until) {
		number := s.next.Add(1)
		request := s.requests[number%uint64(len(s.requests))]
		if len(s.secret) > 0 {
			request = s.signed(request, number)
		}
		began := time.Now()
		if _, err := connection.Write(request); err != nil {
			return found, err
		}
		first, err := message(reader)
		if err != nil {
			return found, err
		}
		found.latencies = append(found.latencies, time.Since(began))
		fields := strings.Fields(first)
		if len(fields) < 2 {
			return found, fmt.Errorf("no status line: %q", first)
		}
		found.statuses[fields[1]]++
	}
	return found, nil
}

func requests(file, header string) ([][]byte, error) {
	keys := []string{"none"}
	if file != "" {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		keys = strings.Fields(string(content))
	}
	made := make([][]byte, len(keys))
	for i, key := range keys {
		made[i] = []byte(fmt.Sprintf("POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nuser-agent: load\r\n"+
			"content-type: application/json\r\n%s: %s\r\ncontent-length: %d\r\n\r\n%s", header, key, len(body), body))
	}
	return made, nil
}

func send(address, ca, keys, header, secret string, connections int, seconds float64) error {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	made, err := requests(keys, header)
	if err != nil {
		return err
	}
	config := &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"http/1.1"}}
	var opened []net.Conn
	for range connections {
		connection, err := tls.Dial("tcp", address, config)
		if err != nil {
			return err
		}
		defer connection.Close()
		opened = append(opened, connection)
	}
	until := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	load := &sender{requests: made, secret: []byte(secret), until: until}
	outcomes, failures := make([]outcome, connections), make([]error, connections)
	var group sync.WaitGroup
	began := time.Now()
	for i, connection := range opened {
		group.Add(1)
		go func() {
			defer group.Done()
			outcomes[i], failures[i] = load.run(connection)
		}()
	}
	group.Wait()
	return report(outcomes, errors.Join(failures...), time.Since(began))
}

func report(outcomes []outcome, failure error, took time.Duration) error {
	if failure != nil {
		return failure
	}
	var latencies []time.Duration
	statuses := map[string]int{}
	for _, found := range outcomes {
		latencies = append(latencies, found.latencies...)
		for status, count := range found.statuses {
			statuses[status] += count
		}
	}
	if len(latencies) == 0 {
		return errors.New("no request was answered")
	}
	sort.Slice(latencies, func(a, b int) bool { return latencies[a] < latencies[b] })
	at := func(share float64) float64 {
		return float64(latencies[int(share*float64(len(latencies)-1))].Nanoseconds()) / 1e6
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"requests": len(latencies), "seconds": took.Seconds(), "statuses": statuses,
		"p50_ms": at(0.5), "p99_ms": at(0.99),
	})
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: load serve|send [flags]")
		os.Exit(2)
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	address := flags.String("address", "127.0.0.1:0", "host:port")
	ca := flags.String("ca", "", "PEM file of the CA to trust (send)")
	keys := flags.String("keys", "", "file with one key a line, used in turn (send)")
	header := flags.String("header", "x-api-key", "header of the key (send)")
	secret := flags.String("secret", "", "sign each request with it (send)")
	connections := flags.Int("connections", 1, "connections at once (send)")
	seconds := flags.Float64("seconds", 1, "how long (send)")
	_ = flags.Parse(os.Args[2:])
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(*address)
	case "send":
		err = send(*address, *ca, *keys, *header, *secret, *connections, *seconds)
	default:
		err = fmt.Errorf("no such command: %s", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}
