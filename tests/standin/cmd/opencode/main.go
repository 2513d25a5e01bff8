// Command opencode stands in for opencode's server in tests, see package standin:
//
//	opencode serve --print-logs --hostname ADDRESS --port PORT [--log-level LEVEL]
//
// GET /global/health and GET /config answer as opencode does, behind HTTP basic
// authentication if OPENCODE_SERVER_PASSWORD is set. With STANDIN_HANG in the
// environment the server accepts connections and never answers.
package main

import (
	"crypto/subtle"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 1 && args[0] == "--version" {
		_, err := fmt.Println("1.18.33")
		return err
	}
	if len(args) == 0 || args[0] != "serve" {
		return fmt.Errorf("want: opencode serve [FLAG]..., not %q", args)
	}
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.Bool("print-logs", false, "")
	flags.String("log-level", "", "")
	host := flags.String("hostname", "127.0.0.1", "")
	port := flags.String("port", "4096", "")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(*host, *port))
	if err != nil {
		return err
	}
	fmt.Println("standin: listening on", l.Addr())
	return http.Serve(l, server())
}

func server() http.Handler {
	mux := http.NewServeMux()
	answer := func(path, body string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })
	}
	answer("/global/health", `{"healthy":true,"version":"0.0.0-standin"}`)
	answer("/config", `{}`)
	password, hang := os.Getenv("OPENCODE_SERVER_PASSWORD"), os.Getenv("STANDIN_HANG") != ""
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, given, _ := r.BasicAuth()
		switch {
		case hang:
			<-r.Context().Done()
		case password != "" && (user != "opencode" || subtle.ConstantTimeCompare([]byte(given), []byte(password)) == 0):
			w.WriteHeader(http.StatusUnauthorized)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}
