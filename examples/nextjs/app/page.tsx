"use client";

import { useState, type FormEvent } from "react";
import { ChatCompletionStream } from "together-ai/lib/ChatCompletionStream";

type Message = { role: "user" | "assistant"; content: string };

export default function Page() {
  const [messages, setMessages] = useState<Message[]>([]);
  const [pending, setPending] = useState(false);

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = event.currentTarget;
    const content = String(new FormData(form).get("question")).trim();
    if (!content || pending) return;
    form.reset();
    const asked: Message[] = [...messages, { role: "user", content }];
    setMessages(asked);
    setPending(true);
    try {
      const response = await fetch("/api/chat", {
        method: "POST",
        body: JSON.stringify({ messages: asked }),
      });
      if (!response.ok || !response.body) throw new Error(await response.text());
      new Audio(`/api/voice/${response.headers.get("Parley-Turn")}`).play(); // the line for the voice
      let answer = "";
      const stream = ChatCompletionStream.fromReadableStream(response.body);
      stream.on("content", (delta: string) => {
        answer += delta;
        setMessages([...asked, { role: "assistant", content: answer }]);
      });
      await stream.done();
    } catch (error) {
      setMessages([...asked, { role: "assistant", content: `(${error})` }]);
    } finally {
      setPending(false);
    }
  }

  return (
    <main>
      <h1>Ask Parley</h1>
      <ul>
        {messages.map((message, n) => (
          <li key={n}>
            <b>{message.role}</b>: {message.content}
          </li>
        ))}
      </ul>
      <form onSubmit={submit}>
        <input name="question" aria-label="Question" autoComplete="off" />
        <button disabled={pending}>{pending ? "Answering …" : "Ask"}</button>
      </form>
    </main>
  );
}
