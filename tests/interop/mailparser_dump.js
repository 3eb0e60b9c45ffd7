// What npm mailparser makes of messages: reads them from standard input, each after its length as u32 (little-endian), and writes
// one JSON line for each. The module is found in node_modules beside this file, or in KK_NODE_MODULES.
'use strict';
const crypto = require('crypto');
const path = require('path');
const modules = process.env.KK_NODE_MODULES || path.join(__dirname, 'node_modules');
const { simpleParser } = require(path.join(modules, 'mailparser'));

const options = { skipHtmlToText: true, skipTextToHtml: true, skipImageLinks: true, skipTextLinks: true };

function addresses(field) {
    const out = [];
    const walk = list => list.forEach(a => (a.group ? walk(a.group) : out.push([a.name || '', a.address || ''])));
    [].concat(field || []).forEach(f => walk(f.value || []));
    return out;
}

async function one(data) {
    const m = await simpleParser(data, options);
    return {
        subject: m.subject === undefined ? '' : String(m.subject),
        message_id: m.messageId || '',
        from: addresses(m.from),
        to: addresses(m.to),
        attachments: m.attachments.map(a => ({
            type: a.contentType || '',
            size: a.size,
            sha256: crypto.createHash('sha256').update(a.content).digest('hex'),
            filename: a.filename || '',
        })),
    };
}

async function main() {
    const chunks = [];
    for await (const c of process.stdin) chunks.push(c);
    const all = Buffer.concat(chunks);
    for (let at = 0; at + 4 <= all.length;) {
        const n = all.readUInt32LE(at);
        let result;
        // Some messages make it throw where no promise catches it.
        const thrown = new Promise(resolve => process.once('uncaughtException', e => resolve({ error: String(e && e.message) })));
        const parsed = one(all.subarray(at + 4, at + 4 + n)).catch(e => ({ error: String(e && e.message) }));
        const late = new Promise(resolve => setTimeout(resolve, 10000, { error: 'no answer' }).unref());
        result = await Promise.race([parsed, thrown, late]);
        process.removeAllListeners('uncaughtException');
        process.stdout.write(JSON.stringify(result) + '\n');
        at += 4 + n;
    }
}

main();
