"use strict";
document.documentElement.classList.add("scripted");

const live = document.getElementById("live");

/* The start page: several files at once, each with its progress. */

const form = document.getElementById("upload");
if (form) {
  const field = document.getElementById("file");
  field.addEventListener("change", () => {
    sendAll([...field.files]);
    field.value = "";
  });
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      form.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) form.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    sendAll([...event.dataTransfer.files]);
  });
  for (const item of document.querySelectorAll(".history [data-job]")) watchItem(item);
}

async function sendAll(files) {
  const pages = await Promise.all(files.map(send));
  const taken = pages.filter(Boolean);
  if (files.length === 1 && taken.length === 1) location.href = taken[0];
  else if (taken.length === files.length && taken.length) location.reload();
}

/* Resolves to the job's page, or to null where the file was refused. */
function send(file) {
  const row = addRow(file.name);
  const largest = Number(form.dataset.largest);
  if (file.size > largest) {
    return refuse(row, `The file is larger than ${Math.round(largest / 1e6)} MB, the limit: cut or compress it.`);
  }
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/jobs?name=${encodeURIComponent(file.name.slice(-200))}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) showShare(row, event.loaded / event.total);
    });
    request.addEventListener("error", () => resolve(refuse(row, "The connection broke off: try again.")));
    request.addEventListener("load", () => {
      const answer = request.response || {};
      if (request.status !== 202) {
        resolve(refuse(row, sentence(String(answer.detail || `The server answered ${request.status}.`))));
        return;
      }
      showShare(row, 1);
      say(`${file.name} is uploaded.`);
      resolve(answer.page);
    });
    request.send(file);
  });
}

function addRow(name) {
  const row = document.createElement("div");
  row.className = "paper upload";
  const title = document.createElement("b");
  title.textContent = name;
  const share = document.createElement("span");
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", `Upload of ${name}`);
  row.append(title, share, bar);
  const list = document.getElementById("uploads");
  list.hidden = false;
  list.append(row);
  say(`Uploading ${name}`);
  return row;
}

function showShare(row, share) {
  row.querySelector("progress").value = share;
  row.querySelector("span").textContent = share < 1 ? `${Math.floor(100 * share)} %` : "uploaded";
}

function refuse(row, text) {
  row.classList.add("refused");
  row.querySelector("progress").remove();
  row.querySelector("span").textContent = "refused";
  const said = document.createElement("p");
  said.className = "said";
  said.textContent = text;
  row.append(said);
  say(`${row.querySelector("b").textContent}: ${text}`);
  return null;
}

/* Waiting jobs in the history become links to results by themselves. */
function watchItem(item) {
  watch(item.dataset.job, (job) => {
    const word = item.querySelector(".word");
    if (job.state === "running") word.textContent = "Being analysed";
    if (job.state === "done" || job.state === "failed") location.reload();
  });
}

/* The job page. */

const stages = document.getElementById("stages");
if (stages) {
  const items = [...stages.children];
  watch(stages.dataset.job, (job) => {
    if (job.state === "done" || job.state === "failed") {
      say(job.state === "done" ? "Done. The result is being opened." : "Not analysed.");
      location.replace(job.page);
      return;
    }
    if (job.state === "queued") {
      say(job.ahead === 0 ? "It is next." : `${job.ahead} file${job.ahead === 1 ? "" : "s"} before it.`);
      return;
    }
    document.getElementById("job").textContent = "Being analysed";
    const now = items.findIndex((item) => item.dataset.stage === job.stage);
    items.forEach((item, place) => {
      item.classList.toggle("done", place < now);
      if (place === now) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
    say(now < 0 ? "Starting" : items[now].textContent);
  });
}

function watch(id, onJob) {
  const events = new EventSource(`/api/jobs/${id}/events`);
  events.addEventListener("job", (event) => {
    const job = JSON.parse(event.data);
    if (job.state === "done" || job.state === "failed") events.close();
    onJob(job);
  });
  events.addEventListener("gone", () => {
    events.close();
    location.href = "/";
  });
}

function say(text) {
  if (live && live.textContent !== text) live.textContent = text;
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".");
}
