package examples

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
)

// scriptedModel stands in for a language model behind an OpenAI-compatible API:
// the real opencode asks it what to do, and it answers with the next tool call
// of its script. So what opencode does with a call (permissions, skills, other
// agents) can be seen without any model.
type scriptedModel struct {
	address string
	script  map[string][]toolCall // by the name of the model

	mu       sync.Mutex
	requests []modelRequest
}

// toolCall is what the model wants to have done.
type toolCall struct {
	tool string
	args map[string]any
}

// modelRequest is a request as far as it matters here.
type modelRequest struct {
	Model    string
	Stream   bool
	Messages []struct {
		Role    string
		Content json.RawMessage
	}
	Tools []struct {
		Function struct{ Name string }
	}
}

// offers reports whether the model was told of a tool.
func (r modelRequest) offers(tool string) bool {
	for _, t := range r.Tools {
		if t.Function.Name == tool {
			return true
		}
	}
	return false
}

// serveModel answers on a loopback port until the scenario ends.
func serveModel(t *testing.T, script map[string][]toolCall) *scriptedModel {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &scriptedModel{address: l.Addr().String(), script: script}
	s := &http.Server{Handler: m}
	t.Cleanup(func() { s.Close() })
	go s.Serve(l) // ends with Close
	return m
}

// asked lists the requests of one model that came with tools: the others are
// for titles.
func (m *scriptedModel) asked(model string) []modelRequest {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.requests), func(r modelRequest) bool { return r.Model != model || len(r.Tools) == 0 })
}

func (m *scriptedModel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var request modelRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || !request.Stream {
		http.Error(w, fmt.Sprintf("not a request for a stream: %v", err), http.StatusBadRequest)
		return
	}
	m.mu.Lock()
	m.requests = append(m.requests, request)
	m.mu.Unlock()
	// Each result of a tool is a step done: the conversation itself says where
	// the script stands.
	step := 0
	for _, message := range request.Messages {
		if message.Role == "tool" {
			step++
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	script := m.script[request.Model]
	if len(request.Tools) == 0 || step >= len(script) {
		chunk(w, map[string]any{"role": "assistant", "content": "Done."}, nil)
		chunk(w, map[string]any{}, "stop")
	} else {
		args, err := json.Marshal(script[step].args)
		if err != nil {
			panic(err) // the script is a test's own
		}
		chunk(w, map[string]any{"role": "assistant", "tool_calls": []any{map[string]any{
			"index": 0, "id": fmt.Sprintf("call_%d", step), "type": "function",
			"function": map[string]any{"name": script[step].tool, "arguments": string(args)},
		}}}, nil)
		chunk(w, map[string]any{}, "tool_calls")
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

// chunk sends one piece of an answer.
func chunk(w http.ResponseWriter, delta map[string]any, finish any) {
	text, err := json.Marshal(map[string]any{
		"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted",
		"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}},
		"usage":   map[string]any{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
	})
	if err == nil {
		fmt.Fprintf(w, "data: %s\n\n", text)
	}
}

// toolResult is what became of a tool call, as opencode keeps it.
type toolResult struct {
	Tool   string
	Status string
	Output string
	Error  string
}

// prompt gives an agent a task, with more keys of the request, and returns the
// tool calls of all of its turns.
func (s server) prompt(t *testing.T, agent, more string) []toolResult {
	t.Helper()
	s.call(t, "POST", "/session/"+s.Session()+"/message", fmt.Sprintf(`{"agent":%q,%s"parts":[{"type":"text","text":"Begin."}]}`, agent, more), new(any))
	return s.results(t, s.Session())
}

// results lists the tool calls of a session.
func (s server) results(t *testing.T, session string) []toolResult {
	t.Helper()
	var messages []struct {
		Info  struct{ Error any }
		Parts []struct {
			Type, Tool string
			State      toolResult
		}
	}
	s.call(t, "GET", "/session/"+session+"/message", "", &messages)
	var out []toolResult
	for _, m := range messages {
		if m.Info.Error != nil {
			t.Errorf("a turn of session %s failed: %v", session, m.Info.Error)
		}
		for _, p := range m.Parts {
			if p.Type == "tool" {
				p.State.Tool = p.Tool
				out = append(out, p.State)
			}
		}
	}
	return out
}
