// Settings → Integrations → Webhook: what the guide of Flows has one fill in, and the Form RAW Response beside it.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-standalone.js";
import { ask } from "./api.js";
import { visible } from "./text.js";

const PAUSE = 150;
const SECRET_BYTES = 24;
const NEW = { provider: "", url: "", secret: "", auth: "bearer", status: "active", events: [] };

const blank = (integration) =>
  integration
    ? { ...Object.fromEntries(Object.keys(NEW).map((name) => [name, integration[name] ?? ""])), secret: "" }
    : { ...NEW };

const same = (one, other) => {
  const [a, b] = [one, other].map((form) => JSON.stringify({ ...form, events: [...form.events].sort() }));
  return a === b;
};

function generate() {
  const bytes = crypto.getRandomValues(new Uint8Array(SECRET_BYTES));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

export function Settings({ known, say, forms, setForms }) {
  const newest = [...known.integrations].reverse().find((integration) => !integration.softRemoved);
  const [chosen, choose] = useState(forms.new ? "new" : null);
  const id = chosen ?? newest?.id;
  const integration = known.integrations.find((item) => item.id === id);
  // Of each integration what is written and not saved; null where there is nothing.
  const write = (name, form) => setForms((before) => ({ ...before, [name]: form }));

  return html`
    <div class="tabs" role="tablist" aria-label="Integration settings">
      <button type="button" role="tab" id="tab-webhook" aria-selected="true" aria-controls="panel-webhook">Webhook</button>
    </div>
    <section id="panel-webhook" role="tabpanel" aria-labelledby="tab-webhook">
      <div class="chips" role="group" aria-label="Integrations">
        ${known.integrations.map(
          (item) => html`
            <button type="button" key=${item.id} aria-pressed=${item.id === id} onClick=${() => choose(item.id)}>
              <span class=${`state ${item.softRemoved ? "removed" : item.status}`} aria-hidden="true"></span>
              ${visible(item.url)} ${about(item, forms[item.id]) && html`<small>${about(item, forms[item.id])}</small>`}
            </button>
          `,
        )}
        <button type="button" class="add" aria-pressed=${id === "new"} onClick=${() => choose("new")}>
          + Add integration ${forms.new && html`<small>draft</small>`}
        </button>
      </div>
      ${id === "new" || integration
        ? html`<${Form}
            key=${id}
            known=${known}
            integration=${integration}
            say=${say}
            form=${forms[id] ?? blank(integration)}
            dirty=${Boolean(forms[id])}
            write=${(form) => write(id, form)}
            close=${choose}
          />`
        : id
          ? html`<p class="quiet busy">Loading</p>`
          : html`<div class="empty">
              <h2>No integration yet</h2>
              <p>An integration tells Flows which events to send, and where. Add one for your receiver.</p>
            </div>`}
    </section>
  `;
}

function about(integration, unsaved) {
  const state = integration.softRemoved ? "removed" : integration.status === "active" ? "" : integration.status;
  return [state, unsaved && "changed"].filter(Boolean).join(", ");
}

// What a person is told once it is saved.
function outcome({ status, events }) {
  if (status !== "active") return "Saved, and paused: nothing is sent until it is active.";
  return events.length ? "Saved: the webhook is set up." : "Saved. No event is ticked, so none is sent yet.";
}

function Form({ known, integration, say, form, dirty, write, close }) {
  const [errors, setErrors] = useState({});
  const [busy, setBusy] = useState(false);
  const element = useRef(null);
  const removed = integration?.softRemoved ?? false;
  const path = integration ? `api/integrations/${integration.id}` : "api/integrations";
  const change = (part) => {
    const next = { ...form, ...part };
    write(integration && same(next, blank(integration)) ? null : next);
    setErrors((before) => Object.fromEntries(Object.entries(before).filter(([name]) => !(name in part))));
  };
  const discard = () => {
    write(null);
    setErrors({});
    if (!integration) close(null);
  };

  async function save(event) {
    event?.preventDefault();
    if (!form.provider) return refuse({ provider: "Choose the provider first." });
    if (!form.secret && !integration?.secretSet) return refuse({ secret: "Enter a secret, or generate one." });
    setBusy(true);
    try {
      const kept = await ask(integration ? "PUT" : "POST", path, { ...form, secret: form.secret || null });
      write(null);
      setErrors({});
      say(outcome(kept));
      close(kept.id);
    } catch (error) {
      const told = error.errors.map(({ pointer, detail }) => [pointer.split("/")[1], detail]);
      refuse(Object.fromEntries(told));
      say(error.message, true);
    } finally {
      setBusy(false);
    }
  }

  function refuse(mistakes) {
    setErrors(mistakes);
    const first = Object.keys(mistakes)[0];
    if (first) element.current.querySelector(`[name="${first}"]`)?.focus();
  }

  async function remove() {
    try {
      await ask("DELETE", path);
      write(null);
      say("Removed: nothing is sent there any more.", false, { title: "Undo", run: restore });
    } catch (error) {
      say(error.message, true);
    }
  }
  const restore = () =>
    ask("PUT", path, { ...blank(integration), secret: null }).then(
      () => say("It is back."),
      (error) => say(error.message, true),
    );

  useEffect(() => {
    const pressed = (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key === "s") {
        event.preventDefault();
        element.current.requestSubmit();
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);

  const id = integration?.id ?? "new";
  return html`
    <div class="columns">
      <form class="card" aria-label="Integration" ref=${element} onSubmit=${save} noValidate autocomplete="off">
        ${removed && html`<p class="note bad">This integration is removed and sends nothing. Restore it to have it back.</p>`}
        <${Field} id=${`provider-${id}`} label="Integration provider" error=${errors.provider}>
          <select name="provider" value=${form.provider} onChange=${(event) => change({ provider: event.target.value })}>
            <option value="">Select a provider…</option>
            <option value=${known.provider}>${known.provider}</option>
          </select>
        <//>
        <${Field} id=${`url-${id}`} label="Webhook URL" error=${errors.url} hint="make run serves http://127.0.0.1:8080">
          <input
            name="url"
            type="url"
            value=${form.url}
            spellcheck="false"
            placeholder="http://127.0.0.1:8080"
            onInput=${(event) => change({ url: event.target.value })}
          />
        <//>
        <${Events} known=${known} ticked=${form.events} change=${(events) => change({ events })} error=${errors.events} />
        <${Secret}
          id=${`secret-${id}`}
          value=${form.secret}
          kept=${integration?.secretSet}
          error=${errors.secret}
          change=${(secret) => change({ secret })}
        />
        <${Auth} id=${`auth-${id}`} forms=${known.auth} summaries=${known.authSummaries} value=${form.auth} error=${errors.auth} change=${(auth) => change({ auth })} />
        <label class="check">
          <input
            type="checkbox"
            name="status"
            checked=${form.status === "active" && !removed}
            disabled=${removed}
            onChange=${(event) => change({ status: event.target.checked ? "active" : "paused" })}
          />
          ${removed ? "Not active: it is removed" : "Active: the ticked events are sent"}
        </label>
        <div class="row actions">
          <button type="submit" class="primary" disabled=${busy} aria-keyshortcuts="Control+S">${busy ? "Saving" : removed ? "Restore" : "Save"}</button>
          ${dirty &&
          html`<span class="quiet">Not saved yet</span>
            <button type="button" class="plain" onClick=${discard}>Discard</button>`}
          ${integration &&
          !removed &&
          html`<button type="button" class="plain danger end" onClick=${remove}>Remove</button>`}
        </div>
      </form>
      <${RawResponse} form=${form} id=${integration?.id} stamp=${integration?.updateTime} saved=${integration && !dirty} />
    </div>
  `;
}

function Field({ id, label, hint, error, children }) {
  const control = [children].flat().find((child) => child?.type);
  const described = [error && `${id}-error`, hint && `${id}-hint`].filter(Boolean).join(" ");
  Object.assign(control.props, { id, "aria-invalid": error ? "true" : undefined, "aria-describedby": described || undefined });
  return html`
    <div class="field">
      <label for=${id}>${label}</label>
      ${control} ${hint && html`<small id=${`${id}-hint`} class="quiet">${hint}</small>`}
      ${error && html`<small id=${`${id}-error`} class="error" role="alert">${error}</small>`}
    </div>
  `;
}

function Secret({ id, value, kept, error, change }) {
  const [shown, setShown] = useState(false);
  return html`
    <div class="field">
      <label for=${id}>Secret</label>
      <div class="row tight">
        <input
          id=${id}
          name="secret"
          class="grow"
          type=${shown && value ? "text" : "password"}
          value=${value}
          spellcheck="false"
          autocomplete="new-password"
          placeholder=${kept ? "•••••••• (saved)" : ""}
          aria-invalid=${error ? "true" : undefined}
          aria-describedby=${error ? `${id}-error` : `${id}-hint`}
          onInput=${(event) => change(event.target.value)}
        />
        <button type="button" disabled=${!value} aria-pressed=${shown && Boolean(value)} onClick=${() => setShown(!shown)}>
          ${shown && value ? "Hide" : "Show"}
        </button>
        <button type="button" onClick=${() => (change(generate()), setShown(true))}>Generate</button>
      </div>
      ${error
        ? html`<small id=${`${id}-error`} class="error" role="alert">${error}</small>`
        : html`<small id=${`${id}-hint`} class="quiet">
            ${kept && !value
              ? "One is saved, and kept if this stays empty. It is never shown again; enter or generate another to replace it."
              : "The receiver’s WEBHOOK_SECRET. make run uses flowhook-development-secret."}
          </small>`}
    </div>
  `;
}

function Auth({ id, forms, summaries, value, error, change }) {
  const [kind, name = ""] = value.split(/:(.*)/s);
  const selected = forms.find((form) => form === kind || form === `${kind}:NAME`) ?? forms[0];
  const named = selected.endsWith(":NAME");
  const start = { query: "token", header: "x-webhook-secret" };
  const pick = (form) => {
    const bare = form.replace(":NAME", "");
    change(form === bare ? form : `${bare}:${start[bare] ?? "x-signature"}`);
  };
  return html`
    <div class="field">
      <label for=${id}>How the secret travels</label>
      <div class="row tight">
        <select id=${id} name="auth" class="grow" value=${selected} onChange=${(event) => pick(event.target.value)}>
          ${forms.map((form) => html`<option key=${form} value=${form}>${form} – ${summaries[form]}</option>`)}
        </select>
        ${named &&
        html`<input
          aria-label=${selected.startsWith("query") ? "Name of the parameter" : "Name of the header"}
          class="short"
          value=${name}
          spellcheck="false"
          aria-invalid=${error ? "true" : undefined}
          onInput=${(event) => change(`${kind}:${event.target.value}`)}
        />`}
      </div>
      ${error
        ? html`<small class="error" role="alert">${error}</small>`
        : html`<small class="quiet">As WEBHOOK_AUTH names it; the receiver’s default, auto, takes all but query.</small>`}
    </div>
  `;
}

function Events({ known, ticked, change, error }) {
  const { categories, labels, operations } = known;
  const all = categories.flatMap((category) => operations.map((operation) => `${category}.${operation}`));
  const box = (types, label) => {
    const count = types.filter((type) => ticked.includes(type)).length;
    return html`<input
      type="checkbox"
      aria-label=${label}
      checked=${count === types.length}
      ref=${(element) => element && (element.indeterminate = count > 0 && count < types.length)}
      onChange=${(event) => {
        const rest = ticked.filter((type) => !types.includes(type));
        change(event.target.checked ? [...rest, ...types] : rest);
      }}
    />`;
  };
  return html`
    <fieldset class="field">
      <legend>Events <span class="quiet">${ticked.length} of ${all.length}</span></legend>
      <table class="grid">
        <thead>
          <tr>
            <th scope="col"><label class="check">${box(all, "All events")} All</label></th>
            ${operations.map(
              (operation) => html`<th scope="col" key=${operation}>
                <label class="check">
                  ${box(categories.map((category) => `${category}.${operation}`), `All ${operation}`)} ${operation}
                </label>
              </th>`,
            )}
          </tr>
        </thead>
        <tbody>
          ${categories.map(
            (category) => html`<tr key=${category}>
              <th scope="row">
                <label class="check">
                  ${box(operations.map((operation) => `${category}.${operation}`), `All ${labels[category]}`)}
                  ${labels[category]}
                </label>
              </th>
              ${operations.map(
                (operation) => html`<td key=${operation}>
                  <label class="cell">${box([`${category}.${operation}`], `${category}.${operation}`)}</label>
                </td>`,
              )}
            </tr>`,
          )}
        </tbody>
      </table>
      ${error && html`<small class="error" role="alert">${error}</small>`}
    </fieldset>
  `;
}

function RawResponse({ form, id, stamp, saved }) {
  const [raw, setRaw] = useState("");
  const [stale, setStale] = useState("");
  const [copied, setCopied] = useState(false);
  const untouched = !id && !form.url;
  useEffect(() => {
    if (untouched) return undefined;
    let current = true;
    const settings = { ...form, provider: form.provider || undefined, secret: form.secret || null };
    const request = () => (saved ? ask("GET", `api/integrations/${id}/raw`) : ask("POST", "api/preview", { ...settings, id: id ?? "" }));
    const timer = setTimeout(() => {
      request().then(
        (answer) => current && (setRaw(JSON.stringify(answer, null, 2)), setStale("")),
        (error) => current && setStale(error.message),
      );
    }, PAUSE);
    return () => ((current = false), clearTimeout(timer));
  }, [JSON.stringify(form), id, stamp, saved]);
  useEffect(() => setCopied(false), [raw]);
  return html`
    <section class="card raw" aria-labelledby="raw-title">
      <div class="row">
        <h2 id="raw-title">Form RAW Response</h2>
        <button type="button" class="end" disabled=${!raw} onClick=${() => navigator.clipboard.writeText(raw).then(() => setCopied(true))}>
          ${copied ? "Copied" : "Copy"}
        </button>
      </div>
      ${raw
        ? html`<pre class=${`code ${stale ? "stale" : ""}`} tabindex="0" role="region" aria-label="Form RAW Response, JSON" dir="ltr">${visible(raw)}</pre>`
        : (untouched || !stale) && html`<p class=${`quiet ${untouched ? "" : "busy"}`}>${untouched ? "What Flows would show for this integration, once it has a URL." : "Loading"}</p>`}
      ${stale && !untouched && html`<p class="quiet" role="status">${raw ? "As it was last valid. " : "Once the form is valid, it is here. "}${stale}</p>`}
      <p class="quiet">Save it as <code>raw.json</code>: <code>python -m flowhook check raw.json</code> says what it means.</p>
    </section>
  `;
}
