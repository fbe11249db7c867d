// What a script finds around itself (protocol 6.3, 6.4). Runs before it, in a fresh context.
// "ask" reaches the server: it takes the name of a call and its arguments as JSON text, and gives
// JSON text back. "lodash" gives the text of that library.
(function (global, ask, lodash) {
  'use strict';
  var parse = JSON.parse, stringify = JSON.stringify, isFinite = global.isFinite;
  var getTime = Date.prototype.getTime, isArray = Array.isArray, slice = Array.prototype.slice;
  var apply = Function.prototype.apply.call.bind(Function.prototype.apply);
  var compile = (0, global.eval);
  var entries = [];

  function FlowError(message, details) {
    this.message = String(message);
    this.details = isArray(details) ? details : [this.message];
    this.stack = new Error(this.message).stack;
  }
  FlowError.prototype = Object.create(Error.prototype);
  FlowError.prototype.name = 'Flow.Error';
  FlowError.prototype.constructor = FlowError;

  function call(name) {
    return function () {
      var answer = parse(ask(name, plain(slice.call(arguments))));
      if (answer.error) throw new FlowError(answer.error.message, answer.error.details);
      return answer.value;
    };
  }

  // JSON without surprises: a date is its milliseconds, and a number that JSON has not is refused.
  function plain(value) {
    var text = stringify(value, function (key, given) {
      var before = this[key];
      if (before instanceof Date) given = apply(getTime, before, []);
      if (typeof given === 'number' && !isFinite(given)) {
        throw new TypeError((key === '' ? 'the result' : "'" + key + "'") + ' is not a finite number');
      }
      return given;
    });
    return text === undefined ? 'null' : text;
  }

  function Task(definition) {
    if (!(this instanceof Task)) return new Task(definition);
    this.definition = definition;
  }

  function fixed(object) { return Object.freeze(object); }
  function put(name, value) {
    Object.defineProperty(global, name, { value: value, enumerable: false });
  }

  put('Flow', fixed({
    Drop: fixed({
      find: call('Drop.find'), findOne: call('Drop.findOne'), get: call('Drop.get'),
      findFHash: call('Drop.findFHash'), aggregate: call('Drop.aggregate')
    }),
    Flow: fixed({ find: call('Flow.find'), get: call('Flow.get') }),
    Track: fixed({ find: call('Track.find'), get: call('Track.get') }),
    Http: fixed({ get: call('Http.get'), post: call('Http.post') }),
    Error: FlowError
  }));
  put('Task', Task);

  function say() {
    if (entries.length >= 1000) return;
    var words = slice.call(arguments).map(function (one) {
      return typeof one === 'string' ? one : plain(one);
    });
    entries.push({ message: words.join(' ').slice(0, 1000) });
  }
  put('console', fixed({ log: say, info: say, warn: say, error: say, debug: say }));

  // lodash is large: it is read when a script first speaks of "_".
  Object.defineProperty(global, '_', {
    configurable: true,
    get: function () {
      Object.defineProperty(global, '_', { value: undefined, writable: true, configurable: true });
      global.self = global;
      compile(lodash());
      delete global.self;
      return global._;
    },
    set: function (value) {
      Object.defineProperty(global, '_', { value: value, writable: true, configurable: true });
    }
  });

  // No code from text: not by eval, nor by the constructors behind functions of every kind.
  function refuse() { throw new TypeError('code cannot be made from text here'); }
  [function () {}, function* () {}, async function () {}, async function* () {}].forEach(
    function (one) {
      Object.defineProperty(Object.getPrototypeOf(one), 'constructor', { value: refuse });
    }
  );
  global.Function = refuse;
  delete global.eval;

  function taskOf(made) {
    var task = made instanceof Task ? made.definition : made;
    if (!task || typeof task !== 'object' || !task.request || typeof task.callback !== 'function') {
      throw new TypeError('the script makes no Task with a request and a callback');
    }
    return task;
  }

  return fixed({
    check: function (made) { return typeof made; },
    run: function (made, text) { return plain(made(parse(text))); },
    request: function (made) { return plain(taskOf(made).request); },
    callback: function (made, text) { return plain(taskOf(made).callback(parse(text))); },
    log: function () { return plain(entries); }
  });
})
