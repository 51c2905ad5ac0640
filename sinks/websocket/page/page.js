// The live page: connects to /v1/stream, shows the newest changes, resumes by cursor.
// What comes in is counted at once; rows are made a few times a second and never more than
// ROWS_AT_ONCE, so that a flood of changes costs the browser little.
"use strict";

const ROWS_MAX = 500; // kept in the table
const ROWS_AT_ONCE = 50; // made in one go
const RENDER_MS = 100; // between two of them; longer where drawing takes long
const FRESH_MAX = 10; // rows at once that are still pointed out
const KNOWN_ROWS_MAX = 5000; // rows remembered, to tell what an update changed
const ASK_MS = 20000; // between two questions that show whether the connection lives
const UNANSWERED_MAX = 3; // of them, then it is given up
// What a row of the table can be; "event" is what is no change: it has a type instead of an op.
const OPS = ["insert", "update", "delete", "truncate", "message", "read", "event"];
const EVENTS = { schema_change: "schema", snapshot: "snapshot", gap: "gap" };

const $ = (id) => document.getElementById(id);
const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

let cursor = null; // where to resume
let retryMs = 500;
let everConnected = false;
let paused = false;
let selected = null; // a table, or null for all
const ops = new Set(OPS);
const tables = new Map(); // name -> {count, rate, last, button}
const known = new Map(); // table and key -> row
const reading = new Map(); // tables whose existing rows are being read -> rows so far
let healthText = "";
let waiting = []; // changes and events not shown yet, oldest first
let skipped = 0;
let total = 0;
let lastTotal = 0;

// ---- connection ----

function setBadge(id, state, text, title = "") {
  $(id).dataset.state = state;
  $(id).textContent = text;
  $(id).title = title;
}

function notice(text, kind = "") {
  $("notice").textContent = text;
  $("notice").dataset.kind = kind;
}

function setHealth(state, text = "") {
  setBadge("state", state, `source: ${state}`, text);
  healthText = text;
  showReading();
}

// The source says every ten seconds how far it is; in between the rows are counted here.
function showReading() {
  const said = healthText.split("reading existing rows of ")[1];
  const counted = [...reading].map(([table, rows]) => `${table}: ${rows.toLocaleString()} rows`);
  $("reading").hidden = reading.size === 0 && !said;
  $("reading").textContent = `Existing rows are being read. ${said ?? counted.join("; ")}`;
}

function connect() {
  const from = cursor ?? new URLSearchParams(location.search).get("from") ?? "now";
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const url = `${scheme}//${location.host}/v1/stream?from=${encodeURIComponent(from)}`;
  const socket = new WebSocket(url, "rowcast.v1.json");
  let unanswered = 0;
  // Nothing tells a page that its connection is dead: pings are hidden from JavaScript.
  const watch = setInterval(() => {
    if (unanswered++ === UNANSWERED_MAX) lost();
    else if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ ask: {} }));
  }, ASK_MS);
  function lost() {
    clearInterval(watch);
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    setBadge("connection", "lost", "disconnected");
    setHealth("unknown");
    notice(everConnected ? "will resume where it stopped" : "trying again");
    setTimeout(connect, retryMs * (0.5 + Math.random()));
    retryMs = Math.min(retryMs * 2, 10000);
  }
  setBadge("connection", "connecting", "connecting");
  socket.onopen = () => {
    retryMs = 500;
    setBadge("connection", "connected", "connected");
  };
  socket.onmessage = (event) => {
    unanswered = 0;
    take(JSON.parse(event.data), socket);
  };
  socket.onclose = lost;
}

function take(frame, socket) {
  switch (frame.type) {
    case "batch":
      frame.entries.forEach(takeEntry);
      break;
    case "hello":
      setHealth(frame.state);
      $("stream").textContent = `stream ${frame.stream}, timeline ${frame.timeline}, `
        + frame.server;
      break;
    case "subscribed":
      if (frame.recovered && everConnected) notice("resumed, nothing missed", "good");
      else notice("");
      everConnected = true;
      cursor = frame.cursor;
      frame.tables.forEach(tableOf);
      break;
    case "health":
      setHealth(frame.state, frame.text);
      break;
    case "reset":
      notice(`changes were missed: ${frame.text}`, "bad");
      cursor = null;
      known.clear();
      reading.clear();
      socket.send(JSON.stringify({ subscribe: { from: "now" } }));
      break;
    case "error":
      notice(frame.text, "bad");
      break;
  }
}

function takeEntry(entry) {
  if (entry.cursor) cursor = entry.cursor;
  if (entry.type === "gap") notice(`gap in the stream: ${entry.reason ?? ""}`, "bad");
  if (entry.type === "restart") notice("a transaction was decoded again: it is repeated here");
  if (entry.type === "snapshot") takeMark(entry);
  if (entry.op === "read") reading.set(entry.table, (reading.get(entry.table) ?? 0) + 1);
  if (entry.op) {
    total++;
    tableOf(nameOf(entry)).count++;
  } else if (!EVENTS[entry.type]) {
    return;
  }
  const before = entry.op ? remember(entry) : null;
  if (!shows(kindOf(entry), nameOf(entry))) return;
  waiting.push({ entry, before });
  if (waiting.length > 2 * ROWS_MAX) {
    skipped += waiting.length - ROWS_MAX;
    waiting = waiting.slice(-ROWS_MAX);
  }
}

function takeMark(mark) {
  if (mark.step === "end") reading.delete(mark.table);
  else reading.set(mark.table, 0);
  if (mark.step === "end") notice(`all existing rows of ${mark.table} were read`, "good");
  showReading();
}

// ---- what an update changed ----

// The row before this change, if it is known: from the change itself or from an earlier one.
function remember(change) {
  if (!change.key && !change.row) return null;
  const id = change.table + JSON.stringify(change.key ?? keyOf(change));
  const before = change.old ?? known.get(id) ?? null;
  known.delete(id);
  if (change.row && change.op !== "delete") known.set(id, { ...before, ...change.row });
  if (known.size > KNOWN_ROWS_MAX) known.delete(known.keys().next().value);
  return change.op === "update" ? before : null;
}

function keyOf(change) {
  return change.key ?? change.row ?? {};
}

// ---- tables ----

const kindOf = (entry) => (entry.op ? entry.op : "event");
const labelOf = (entry) => entry.op ?? EVENTS[entry.type];
const nameOf = (entry) => entry.table ?? (entry.op ? "(message)" : ALL_TABLES);
const ALL_TABLES = "*"; // a gap
const shows = (kind, table) =>
  ops.has(kind) && (!selected || selected === table || table === ALL_TABLES);

function tableOf(name) {
  let table = tables.get(name);
  if (table) return table;
  const item = make("li");
  const button = make("button");
  button.type = "button";
  button.title = name;
  button.append(make("span", "name", name), make("span", "number", "0/s"));
  button.onclick = () => select(selected === name ? null : name);
  item.append(button);
  table = { count: 0, last: 0, item, button };
  tables.set(name, table);
  const names = [...tables.keys()].sort();
  const after = tables.get(names[names.indexOf(name) + 1]);
  $("tables").insertBefore(item, after ? after.item : null);
  filterTables();
  return table;
}

function filterTables() {
  const text = $("filter").value.toLowerCase();
  for (const [name, table] of tables) table.item.hidden = !name.toLowerCase().includes(text);
}

function select(name) {
  selected = name;
  for (const [other, table] of tables) {
    table.button.setAttribute("aria-pressed", other === selected);
  }
  refilter();
}

function refilter() {
  waiting = waiting.filter(({ entry }) => shows(kindOf(entry), nameOf(entry)));
  for (const row of $("changes").tBodies[0].rows) {
    row.hidden = !shows(row.dataset.op, row.dataset.table);
  }
}

function showRates() {
  for (const table of tables.values()) {
    table.button.lastChild.textContent = `${table.count - table.last}/s`;
    table.last = table.count;
  }
  showReading();
  $("rate").textContent = `${(total - lastTotal).toLocaleString()}/s`;
  lastTotal = total;
}

// ---- changes ----

const short = (value, max = 60) => {
  const text = value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
  return text.length > max ? text.slice(0, max) + "\u2026" : text;
};

function columnElement(name, value, before) {
  const element = make("span", "column", `${name} `);
  if (before !== undefined && short(before, 1e6) !== short(value, 1e6)) {
    element.classList.add("changed");
    element.append(make("s", "", short(before, 30)), " ");
  }
  element.append(make("span", "value", short(value)));
  return element;
}

// What a schema change, a mark or a gap says.
function eventCell(entry) {
  const cell = make("td", "columns");
  const say = (text) => cell.append(make("span", "column", text));
  const column = (c) => `${c.name} ${c.type}`;
  if (entry.type === "gap") say(`${entry.from_lsn} to ${entry.to_lsn}: ${entry.reason}`);
  if (entry.step) say(entry.step);
  if (entry.rows !== undefined) say(`${entry.rows.toLocaleString()} rows`);
  if (entry.type === "snapshot" && entry.reason) say(entry.reason);
  if (entry.change) say(entry.change);
  if (entry.table_before) say(`was ${entry.table_before}`);
  for (const c of (entry.added ?? []).slice(0, 12)) say(`+ ${column(c)}`);
  for (const c of entry.dropped ?? []) say(`\u2212 ${column(c)}`);
  for (const c of entry.changed ?? []) say(`${column(c.before)} \u2192 ${column(c.after)}`);
  if (entry.replica_identity_before) say(`replica identity ${entry.replica_identity}`);
  return cell;
}

function columnsCell(entry, before) {
  if (!entry.op) return eventCell(entry);
  const cell = make("td", "columns");
  const row = entry.row ?? (entry.op === "delete" ? entry.old : null) ?? {};
  const names = Object.keys(row).filter((name) => entry.op !== "insert" || row[name] !== null);
  const changed = (name) => before && name in before
    && JSON.stringify(before[name]) !== JSON.stringify(row[name]);
  names.sort((a, b) => Boolean(changed(b)) - Boolean(changed(a)));
  for (const name of names.slice(0, 12)) {
    if (!(name in (entry.key ?? {})) || changed(name)) {
      cell.append(columnElement(name, row[name], before?.[name]));
    }
  }
  if (entry.op === "truncate") cell.append(entry.tables.join(", "));
  if (entry.op === "message") cell.append(`${entry.prefix}: ${short(entry.content)}`);
  if (entry.omitted) cell.append(make("span", "column", `omitted: ${entry.omitted.join(", ")}`));
  return cell;
}

function rowElement({ entry, before }, below) {
  const row = make("tr");
  row.dataset.op = kindOf(entry);
  row.dataset.table = nameOf(entry);
  row.dataset.lsn = entry.lsn ?? entry.to_lsn;
  const same = below && below.dataset.lsn === entry.lsn;
  if (same) { // the newest row of a transaction bears its time and xid
    below.classList.add("same");
    row.classList.add("joined");
  }
  const time = entry.time ? new Date(entry.time) : null;
  const clock = time ? time.toLocaleTimeString([], { hour12: false }) + "."
    + String(time.getMilliseconds()).padStart(3, "0") : "";
  const key = Object.values(entry.key ?? {}).map((value) => short(value, 40)).join(", ");
  row.append(make("td", "time", clock), make("td", "op", labelOf(entry)),
    make("td", "table", entry.table ?? ""), make("td", "key", key), columnsCell(entry, before),
    make("td", "transaction", entry.xid ? `xid ${entry.xid}` : ""));
  row.onclick = () => show(entry);
  return row;
}

function render() {
  if (paused || waiting.length === 0) return;
  const body = $("changes").tBodies[0];
  if (waiting.length > ROWS_AT_ONCE) skipped += waiting.length - ROWS_AT_ONCE;
  const changes = waiting.slice(-ROWS_AT_ONCE);
  waiting = [];
  const rows = [];
  let below = body.rows[0];
  for (const change of changes) {
    below = rowElement(change, below);
    if (changes.length <= FRESH_MAX) below.classList.add("fresh");
    rows.push(below);
  }
  body.prepend(...rows.reverse());
  while (body.rows.length > ROWS_MAX) body.lastChild.remove();
  $("empty").hidden = true;
  $("skipped").hidden = skipped === 0;
  $("skipped").textContent = `${skipped.toLocaleString()} more changes came too fast to be shown; `
    + "all were counted.";
}

function show(entry) {
  $("detail-title").textContent = 
    `${labelOf(entry)} ${entry.table ?? ""} at ${entry.lsn ?? entry.to_lsn}`;
  $("detail-json").textContent = JSON.stringify(entry, null, 2);
  $("detail").showModal();
}

// ---- set-up ----

for (const op of OPS) {
  const box = make("input");
  box.type = "checkbox";
  box.checked = true;
  box.value = op;
  box.onchange = () => {
    if (box.checked) ops.add(op);
    else ops.delete(op);
    refilter();
  };
  const label = make("label");
  label.append(box, op);
  $("ops").append(label);
}
$("filter").oninput = filterTables;
$("pause").onclick = () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
  $("pause").textContent = paused ? "Resume" : "Pause";
};
$("clear").onclick = () => {
  $("changes").tBodies[0].replaceChildren();
  waiting = [];
  skipped = 0;
  $("skipped").hidden = true;
  $("empty").hidden = false;
};
function renderLoop() { // at most a fifth of the time goes into drawing
  requestAnimationFrame(() => {
    const start = performance.now();
    render();
    setTimeout(() => { // behind the drawing
      setTimeout(renderLoop, Math.max(RENDER_MS, 4 * (performance.now() - start)));
    });
  });
}
renderLoop();
setInterval(showRates, 1000);
connect();
