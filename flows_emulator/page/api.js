// The emulator's HTTP API, and what changes in it.

export class ApiError extends Error {
  constructor(answer) {
    super(answer.detail ?? "The emulator could not do that.");
    this.errors = answer.errors ?? [];
  }
}

export async function ask(method, path, document) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { "Content-Type": "application/json" },
      body: document === undefined ? undefined : JSON.stringify(document),
    });
  } catch {
    throw new ApiError({ detail: "The emulator does not answer. Is it still running?" });
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(answer);
  return answer;
}

// Calls `changed(topics)` for what changes and `connected(yes)` whenever the connection comes or goes.
export function watch(changed, connected) {
  const source = new EventSource("api/changes");
  source.onopen = () => connected(true);
  source.onerror = () => connected(false);
  source.onmessage = (message) => changed(JSON.parse(message.data));
  return () => source.close();
}
