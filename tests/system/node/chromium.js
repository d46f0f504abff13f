// Drives one Chromium, for `Browser` in chromium.py: a command per line of standard input, in
// JSON, and an answer per line of standard output.  Ends when standard input does.

import readline from 'node:readline';
import {chromium} from 'playwright-core';

const {executable, patience} = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath: executable,
  // Nothing of this is to look for hosts elsewhere; as root there is no sandbox.
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const pages = [];

const commands = {
  // A page in a profile of its own.
  async open({url}) {
    const context = await browser.newContext({ignoreHTTPSErrors: true});
    context.setDefaultTimeout(patience);
    const page = await context.newPage();
    page.problems = [];
    page.on('pageerror', (error) => page.problems.push(error.message));
    page.on('console', (said) => said.type() === 'error' && page.problems.push(said.text()));
    await page.goto(url);
    return pages.push(page) - 1;
  },
  load: ({page}) => pages[page].reload().then(() => null),
  run: ({page, script}) => pages[page].evaluate(script),
  problems: ({page}) => pages[page].problems,
  // Not by waitForFunction, which the policy of a careful page forbids.  While one page gives way
  // to the next there is nothing to evaluate in, and then not yet all of it.
  async until({page, script}) {
    const ends = Date.now() + patience;
    for (;;) {
      try {
        if (await pages[page].evaluate(script)) return;
      } catch (error) {
        if (Date.now() > ends - 1000) throw error;
      }
      if (Date.now() > ends) return;
      await new Promise((go) => setTimeout(go, 30));
    }
  },
  press: ({page, key}) => pages[page].keyboard.press(key).then(() => null),
  type: ({page, text}) => pages[page].keyboard.type(text).then(() => null),
  size: ({page, width, height}) => pages[page].setViewportSize({width, height}).then(() => null),
  scheme: ({page, scheme}) => pages[page].emulateMedia({colorScheme: scheme}).then(() => null),
  picture: ({page, path}) => pages[page].screenshot({path, fullPage: true}).then(() => null),
  cookies: ({page}) => pages[page].context().cookies(),
  close: ({page}) => pages[page].context().close().then(() => null),
};

function patiently(promise) {
  let timer;
  const over = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer in time')), patience);
  });
  return Promise.race([promise, over]).finally(() => clearTimeout(timer));
}

for await (const line of readline.createInterface({input: process.stdin})) {
  const {command, ...rest} = JSON.parse(line);
  let answer;
  try {
    answer = {value: await patiently(commands[command](rest)) ?? null};
  } catch (error) {
    answer = {error: error.message};
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
