// Command load sends one review over and over, with the HTTP stack that an API server has. Each
// connection sends its next request when it has the answer to the last one. It prints how long all
// of it took and how long each answer took, in nanoseconds, as JSON.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Longest time for one answer: far beyond any that is worth measuring.
const timeout = 30 * time.Second

type target struct {
	url    string
	review []byte
	wanted []byte
	http1  bool
}

type report struct {
	TookNanos int64   `json:"took_nanos"`
	Nanos     []int64 `json:"nanos"`
}

func main() {
	url := flag.String("url", "", "where reviews are sent")
	authority := flag.String("authority", "", "PEM `file` of the server's authority")
	review := flag.String("review", "", "`file` with the review")
	wanted := flag.String("wanted", "", "what every answer has to contain")
	connections := flag.Int("connections", 1, "how many connections")
	requests := flag.Int("requests", 1, "how many requests, over all connections")
	http1 := flag.Bool("http1", false, "HTTP/1.1, as API servers speak to webhooks, in place of HTTP/2")
	warm := flag.Bool("warm", false, "ask once on each connection before anything is measured")
	flag.Parse()
	to := target{url: *url, wanted: []byte(*wanted), http1: *http1}
	if err := run(to, *authority, *review, *connections, *requests, *warm); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(to target, authority, review string, connections, requests int, warm bool) error {
	pem, err := os.ReadFile(authority)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: no certificate", authority)
	}
	if to.review, err = os.ReadFile(review); err != nil {
		return err
	}
	clients, err := open(to, roots, connections, warm)
	if err != nil {
		return err
	}
	report, err := ask(to, clients, requests)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}

// open gives clients that have one open connection each.
func open(to target, roots *x509.CertPool, count int, warm bool) ([]*http.Client, error) {
	clients := make([]*http.Client, count)
	errs := make([]error, count)
	var opening sync.WaitGroup
	for i := range clients {
		clients[i] = &http.Client{
			Timeout: timeout,
			Transport: &http.Transport{
				TLSClientConfig:   &tls.Config{RootCAs: roots},
				ForceAttemptHTTP2: !to.http1,
				MaxConnsPerHost:   1,
			},
		}
		opening.Go(func() { errs[i] = connect(to, clients[i], warm) })
	}
	opening.Wait()
	return clients, errors.Join(errs...)
}

// connect asks for what no server has, which connects and does no more, or for a first review.
func connect(to target, client *http.Client, warm bool) error {
	if warm {
		return to.ask(client)
	}
	answer, err := client.Head(to.url)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

func ask(to target, clients []*http.Client, requests int) (report, error) {
	var left atomic.Int64
	left.Store(int64(requests))
	nanos := make([][]int64, len(clients))
	errs := make([]error, len(clients))
	var asking sync.WaitGroup
	begun := time.Now()
	for i, client := range clients {
		asking.Go(func() {
			for errs[i] == nil && left.Add(-1) >= 0 {
				begun := time.Now()
				errs[i] = to.ask(client)
				nanos[i] = append(nanos[i], time.Since(begun).Nanoseconds())
			}
		})
	}
	asking.Wait()
	result := report{TookNanos: time.Since(begun).Nanoseconds()}
	for _, each := range nanos {
		result.Nanos = append(result.Nanos, each...)
	}
	return result, errors.Join(errs...)
}

// ask sends the review; every answer but a 200 that holds what is wanted is an error.
func (to target) ask(client *http.Client) error {
	answer, err := client.Post(to.url, "application/json", bytes.NewReader(to.review))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK || !bytes.Contains(body, to.wanted) {
		return fmt.Errorf("a wrong answer, %s: %s", answer.Status, body)
	}
	return nil
}
