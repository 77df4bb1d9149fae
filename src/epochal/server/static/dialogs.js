// Dialogs: a confirmation, and the admin token.

import * as api from "./api.js";
import { $, note } from "./dom.js";

function closed(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

export function confirm({ title, text, yes, more = null, danger = false }) {
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-more").replaceChildren(...(more ? [more] : []));
  $("ask-yes").textContent = yes;
  $("ask-yes").className = danger ? "danger" : "main";
  return closed($("ask"));
}

/** Ask for the admin token; returns whether the page is signed in. */
export async function askToken() {
  $("token-error").textContent = "";
  while (await closed($("token-dialog"))) {
    const token = $("token").value.trim();
    $("token").value = "";
    try {
      await api.signIn(token);
      showSession(true);
      return true;
    } catch (error) {
      $("token-error").textContent = error.status === 401 || error.status === 403 ? "That is not the admin token." : error.message;
    }
  }
  return false;
}

/**
 * Run an action, and ask for the admin token if it needs one; null if the dialog is cancelled or the
 * action failed, which is noted.
 */
export async function attempt(act) {
  try {
    return await act().catch(async (error) => {
      if (error.status !== 401) throw error;
      return (await askToken()) ? act() : null;
    });
  } catch (error) {
    note(error instanceof TypeError ? "The service could not be reached." : error.message, true);
    return null;
  }
}

export function showSession(mayChange) {
  $("sign").textContent = mayChange ? "Sign out" : "Sign in";
  $("sign").dataset.signed = mayChange ? "yes" : "";
}

$("sign").addEventListener("click", async () => {
  if (!$("sign").dataset.signed) return askToken();
  await api.signOut();
  showSession(false);
});

// Not submit buttons: Enter in a field would press the first of those.
for (const button of document.querySelectorAll("dialog .cancel")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
