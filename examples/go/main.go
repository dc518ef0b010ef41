// Ask Parley with nats.go: the words as they come, the voice into a file of raw samples (24 kHz,
// 16 bit, mono).
//
//	go run . "Why is the sky blue?" [FILE.pcm]
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

const silence = time.Minute // after which nobody is there any more

type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// What this program needs of the events of text and voice.
type event struct {
	Type    string   `json:"type"`
	Attempt int      `json:"attempt"`
	Seq     int      `json:"seq"`
	Text    string   `json:"text"`
	Index   int      `json:"index"`
	Error   *failure `json:"error"`
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal(`usage: go run . "Why is the sky blue?" [FILE.pcm]`)
	}
	file := "answer.pcm"
	if len(os.Args) > 2 {
		file = os.Args[2]
	}
	url := os.Getenv("NATS_URL")
	if url == "" {
		url = nats.DefaultURL
	}
	nc, err := nats.Connect(url, nats.UserInfo(os.Getenv("NATS_USER"), os.Getenv("NATS_PASSWORD")))
	check(err)
	defer nc.Close()

	conversation, turn := nuid.Next(), nuid.Next()
	words, err := nc.SubscribeSync("chat.delta." + conversation)
	check(err)
	voice, err := nc.SubscribeSync("tts.audio." + conversation)
	check(err)
	check(nc.Flush())

	// Answered when the stream has it. Asked again with the same turn id, it is answered once.
	request, err := json.Marshal(map[string]string{"content": os.Args[1], "turn_id": turn})
	check(err)
	reply, err := nc.Request("chat.ask."+conversation, request, 10*time.Second)
	check(err)
	var answer event
	check(json.Unmarshal(reply.Data, &answer))
	if answer.Error != nil {
		log.Fatal(answer.Error.Message)
	}

	heard := make(chan []byte)
	go func() { heard <- hear(voice) }()
	read(words)
	samples := <-heard
	check(os.WriteFile(file, samples, 0o644))
	fmt.Printf("\n%s: %.1f s\n", file, float64(len(samples))/48000)
}

// read prints the words: a higher attempt begins anew, a seq that was seen is a repetition.
func read(words *nats.Subscription) {
	attempt, seq := 0, -1
	for {
		e := decode(next(words))
		if e.Attempt < attempt || e.Attempt == attempt && e.Seq <= seq {
			continue
		}
		if attempt > 0 && e.Attempt > attempt {
			fmt.Print("\n(begun again)\n")
		}
		attempt, seq = e.Attempt, e.Seq
		switch e.Type {
		case "text":
			fmt.Print(e.Text)
		case "failed":
			log.Fatalf("%s: %s", e.Error.Code, e.Error.Message)
		case "done":
			return
		}
	}
}

// hear collects the pieces that were spoken whole.
func hear(voice *nats.Subscription) []byte {
	var samples []byte
	attempt, pieces := 0, map[int][]byte{}
	for {
		msg := next(voice)
		kind := msg.Header.Get("Parley-Type")
		e := event{}
		if kind == "chunk" {
			e.Attempt = number(msg.Header.Get("Parley-Attempt"))
			e.Index = number(msg.Header.Get("Parley-Piece"))
		} else {
			e = decode(msg)
		}
		if e.Attempt < attempt {
			continue // a leftover of a worker that was replaced
		}
		if e.Attempt > attempt {
			attempt, pieces = e.Attempt, map[int][]byte{} // what was not done is spoken again
		}
		switch kind {
		case "chunk":
			pieces[e.Index] = append(pieces[e.Index], msg.Data...)
		case "piece_done":
			samples = append(samples, pieces[e.Index]...)
		case "failed":
			log.Fatalf("no voice: %s", e.Error.Message)
		case "stored":
			return samples
		}
	}
}

func next(subscription *nats.Subscription) *nats.Msg {
	msg, err := subscription.NextMsg(silence)
	check(err)
	return msg
}

func decode(msg *nats.Msg) (e event) {
	check(json.Unmarshal(msg.Data, &e))
	return e
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	check(err)
	return n
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
