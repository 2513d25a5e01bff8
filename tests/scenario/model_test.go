package scenario

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"
)

// A stand-in for a language model, in the protocol that opencode's provider
// @ai-sdk/openai-compatible speaks. Whatever it is told, it calls the tool bash with
// it; told of a result, it says that it is done.

// configured makes it the model of every instance that has this among its config.
const standInModel = `
model = "standin/model"
small_model = "standin/model"
[CONFIG.provider.standin]
npm = "@ai-sdk/openai-compatible"
name = "Stand-in"
options = { baseURL = "http://127.0.0.1:9200/v1", apiKey = "none" }
models = { model = { name = "Model", tool_call = true } }
`

func serveModel(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return http.Serve(l, http.HandlerFunc(complete))
}

func complete(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Messages []struct {
			Role    string
			Content json.RawMessage
		}
		Tools []json.RawMessage
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	delta := map[string]any{"role": "assistant", "content": "done"}
	finish := "stop"
	last := request.Messages[len(request.Messages)-1]
	if last.Role == "user" && len(request.Tools) > 0 { // without tools it is asked for a title
		arguments, _ := json.Marshal(map[string]string{"command": lastText(last.Content), "description": "what it is asked to"})
		delta = map[string]any{"role": "assistant", "tool_calls": []any{map[string]any{
			"index": 0, "id": "call_1", "type": "function",
			"function": map[string]any{"name": "bash", "arguments": string(arguments)},
		}}}
		finish = "tool_calls"
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, choice := range []map[string]any{{"index": 0, "delta": delta}, {"index": 0, "delta": map[string]any{}, "finish_reason": finish}} {
		chunk, _ := json.Marshal(map[string]any{"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "model", "choices": []any{choice}})
		fmt.Fprintf(w, "data: %s\n\n", chunk)
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

// lastText is the last text of a message, which is a string or a list of parts.
func lastText(content json.RawMessage) string {
	var text string
	if json.Unmarshal(content, &text) == nil {
		return text
	}
	var parts []struct{ Text string }
	if json.Unmarshal(content, &parts) == nil && len(parts) > 0 {
		return parts[len(parts)-1].Text
	}
	return ""
}

// ask has the model of an instance ask for a command by way of an agent, and returns
// what became of its calls: "completed", "error: …", or what the server says.
func (a *agent) ask(t *testing.T, by, command string) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"agent": by, "model": map[string]string{"providerID": "standin", "modelID": "model"},
		"parts": []any{map[string]string{"type": "text", "text": command}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var message struct {
		Info struct{ Error json.RawMessage }
	}
	if err := a.Call(t.Context(), http.MethodPost, "/session/"+a.Session()+"/message", string(body), &message); err != nil {
		return err.Error()
	}
	var all []struct {
		Parts []struct {
			Type  string
			Tool  string
			State struct{ Status, Error, Output string }
		}
	}
	a.call(t, http.MethodGet, "/session/"+a.Session()+"/message", "", &all)
	outcome := "no call: " + string(message.Info.Error)
	for _, m := range all {
		for _, p := range m.Parts {
			if p.Type == "tool" {
				outcome = p.Tool + " " + p.State.Status + ": " + p.State.Error + p.State.Output
			}
		}
	}
	return outcome
}
