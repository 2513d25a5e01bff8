# Stands in for nixpkgs' lib where there is none: what nixos/ uses of it, under the same names and with the same
# meaning, and nothing more. With OPENCODED_NIXPKGS the tests use the real one, which keeps this one honest.
let
  inherit (builtins)
    all any attrNames attrValues concatLists concatMap concatStringsSep elem elemAt filter foldl' fromJSON genList head
    isAttrs isBool isFloat isFunction isInt isList isPath isString length listToAttrs map mapAttrs match partition readFile
    removeAttrs replaceStrings sort split stringLength substring tail toJSON zipAttrsWith;

  make = self: {
    inherit all any attrNames attrValues concatLists concatMap concatStringsSep elem filter head length mapAttrs partition sort tail;
    extend = f: let extended = make extended // f extended self; in extended;
    version = "stand-in";

    # --- values
    id = x: x;
    optional = c: x: if c then [ x ] else [ ];
    optionals = c: l: if c then l else [ ];
    optionalAttrs = c: s: if c then s else { };
    optionalString = c: s: if c then s else "";
    last = l: elemAt l (length l - 1);
    unique = foldl' (seen: x: if elem x seen then seen else seen ++ [ x ]) [ ];
    findFirst = p: fallback: l: let found = filter p l; in if found == [ ] then fallback else head found;
    nameValuePair = name: value: { inherit name value; };
    mapAttrsToList = f: s: map (n: f n s.${n}) (attrNames s);
    mapAttrs' = f: s: listToAttrs (self.mapAttrsToList f s);
    filterAttrs = p: s: removeAttrs s (filter (n: !p n s.${n}) (attrNames s));
    genAttrs = names: f: listToAttrs (map (n: self.nameValuePair n (f n)) names);
    attrByPath = path: fallback: s:
      if path == [ ] then s else if s ? ${head path} then self.attrByPath (tail path) fallback s.${head path} else fallback;
    recursiveUpdate = a: b: a // mapAttrs (n: v: if isAttrs v && isAttrs (a.${n} or null) then self.recursiveUpdate a.${n} v else v) b;
    hasPrefix = p: s: substring 0 (stringLength p) s == p;
    hasSuffix = p: s: let n = stringLength s - stringLength p; in n >= 0 && substring n (stringLength p) s == p;
    removePrefix = p: s: if self.hasPrefix p s then substring (stringLength p) (-1) s else s;
    removeSuffix = x: s: if self.hasSuffix x s then substring 0 (stringLength s - stringLength x) s else s;
    concatMapStrings = f: l: concatStringsSep "" (map f l);
    splitString = separator: s: filter isString (split (replaceStrings [ "." ] [ "[.]" ] separator) s);
    escapeShellArg = s: "'${replaceStrings [ "'" ] [ "'\\''" ] (toString s)}'";
    importJSON = file: fromJSON (readFile file);
    isDerivation = v: v.type or null == "derivation";
    getBin = p: p.bin or p;
    getExe = p: "${self.getBin p}/bin/${p.meta.mainProgram or p.pname or p.name}";
    getExe' = p: name: "${self.getBin p}/bin/${name}";
    generators.toPretty = { }: toJSON;
    sourceByRegex = source: _: source;
    platforms.linux = [ "x86_64-linux" "aarch64-linux" ];

    # --- options and properties
    literalExpression = text: { _type = "literalExpression"; inherit text; };
    literalMD = text: { _type = "literalMD"; inherit text; };
    mkOption = o: o // { _type = "option"; };
    mkEnableOption = what: self.mkOption { type = self.types.bool; default = false; example = true; description = "Whether to enable ${what}."; };
    mkOptionType = t: { _type = "option-type"; description = t.name; getSubOptions = _: { }; check = _: true; merge = self.mergeEqualOption; } // t;
    mkIf = condition: content: { _type = "if"; inherit condition content; };
    mkMerge = contents: { _type = "merge"; inherit contents; };
    mkOverride = priority: content: { _type = "override"; inherit priority content; };
    mkDefault = self.mkOverride 1000;
    mkForce = self.mkOverride 50;
    mkOrder = priority: content: { _type = "order"; inherit priority content; };
    mkBefore = self.mkOrder 500;
    mkAfter = self.mkOrder 1500;
    isOption = o: o._type or null == "option";
    showOption = loc: concatStringsSep "." (map (n: if match "[A-Za-z_][A-Za-z0-9_'-]*|<name>|[*]" n != null then n else toJSON n) loc);
    mergeEqualOption = loc: defs:
      if all (d: d.value == (head defs).value) defs then (head defs).value
      else throw "The option `${self.showOption loc}' has conflicting definition values: ${toJSON (map (d: d.value) defs)}";

    # What definitions of one option come to.
    mergeDefinitions = loc: type: defs:
      let
        discharged = concatMap (d: map (value: { inherit (d) file; inherit value; }) (discharge d.value)) defs;
        priority = d: if d.value._type or null == "override" then d.value.priority else 100;
        highest = foldl' (p: d: if priority d < p then priority d else p) 9999 discharged;
        chosen = map (d: if d.value._type or null == "override" then d // { value = d.value.content; } else d)
          (filter (d: priority d == highest) discharged);
        order = d: if d.value._type or null == "order" then d.value.priority else 1000;
        sorted = map (d: if d.value._type or null == "order" then d // { value = d.value.content; } else d)
          (sort (a: b: order a < order b) chosen);
        wrong = filter (d: !type.check d.value) sorted;
        result = rec {
          defsFinal = sorted;
          isDefined = sorted != [ ];
          mergedValue =
            if !isDefined then throw "The option `${self.showOption loc}' was accessed but has no value defined. Try setting the option."
            else if wrong != [ ] then
              throw "A definition for option `${self.showOption loc}' is not of type `${type.description}'. Definition values: ${concatStringsSep ", " (map (d: show d.value) wrong)}"
            else type.merge loc sorted;
          optionalValue = if isDefined then { value = mergedValue; } else { };
        };
      in
      result;

    types = let inherit (self) mkOptionType mergeDefinitions types; simple = name: check: mkOptionType { inherit name check; }; in {
      bool = simple "boolean" isBool;
      str = simple "string" isString;
      int = simple "signed integer" isInt;
      float = simple "floating point number" isFloat;
      number = simple "number" (v: isInt v || isFloat v);
      raw = simple "raw value" (_: true);
      anything = types.raw // {
        merge = loc: defs:
          if all (d: isAttrs d.value && !(self.isDerivation d.value)) defs then (types.attrsOf types.anything).merge loc defs
          else if all (d: isList d.value) defs then concatMap (d: d.value) defs
          else self.mergeEqualOption loc defs;
      };
      path = simple "absolute path" (v: (isPath v || isString v || v ? outPath) && substring 0 1 (toString v) == "/");
      package = simple "package" (v: self.isDerivation v || (isString v && self.hasPrefix builtins.storeDir v));
      lines = simple "strings concatenated with \"\\n\"" isString // { merge = _: defs: concatStringsSep "\n" (map (d: d.value) defs); };
      enum = values: simple "one of ${concatStringsSep ", " (map toJSON values)}" (v: elem v values);
      strMatching = pattern: simple "string matching the pattern ${pattern}" (v: isString v && match pattern v != null);
      ints = {
        between = low: high: simple "integer between ${toString low} and ${toString high} (both inclusive)" (v: isInt v && v >= low && v <= high);
        unsigned = simple "unsigned integer, meaning >=0" (v: isInt v && v >= 0);
        positive = simple "positive integer, meaning >0" (v: isInt v && v > 0);
      };
      numbers = {
        between = low: high: simple "number between ${toJSON low} and ${toJSON high} (both inclusive)" (v: types.number.check v && v >= low && v <= high);
        nonnegative = simple "nonnegative number, meaning >=0" (v: types.number.check v && v >= 0);
      };
      addCheck = t: check: t // { check = v: t.check v && check v; };
      either = a: b: mkOptionType {
        name = "either";
        description = "${a.description} or ${b.description}";
        check = v: a.check v || b.check v;
        merge = loc: defs: if all (d: a.check d.value) defs then a.merge loc defs else if all (d: b.check d.value) defs then b.merge loc defs
          else throw "The option `${self.showOption loc}' has conflicting definitions of different types";
      };
      oneOf = ts: foldl' types.either (head ts) (tail ts);
      nullOr = t: mkOptionType {
        name = "nullOr";
        description = "null or ${t.description}";
        check = v: v == null || t.check v;
        merge = loc: defs: if all (d: d.value == null) defs then null else t.merge loc (filter (d: d.value != null) defs);
        inherit (t) getSubOptions;
      };
      listOf = t: mkOptionType {
        name = "listOf";
        description = "list of ${t.description}";
        check = isList;
        merge = loc: defs: concatMap
          (d: concatMap
            (i: let m = mergeDefinitions (loc ++ [ "[entry ${toString (i + 1)}]" ]) t [ (d // { value = elemAt d.value i; }) ]; in self.optional m.isDefined m.mergedValue)
            (genList self.id (length d.value)))
          defs;
        getSubOptions = at: t.getSubOptions (at ++ [ "*" ]);
      };
      attrsOf = t: mkOptionType {
        name = "attrsOf";
        description = "attribute set of ${t.description}";
        check = isAttrs;
        merge = loc: defs:
          let merged = zipAttrsWith (name: mergeDefinitions (loc ++ [ name ]) t) (concatMap pushDown defs); in
          mapAttrs (_: m: m.mergedValue) (self.filterAttrs (_: m: m.isDefined) merged);
        getSubOptions = at: t.getSubOptions (at ++ [ "<name>" ]);
      };
      submodule = m:
        let modules = if isList m then m else [ m ]; in
        mkOptionType {
          name = "submodule";
          check = v: isAttrs v || isFunction v || isPath v;
          merge = loc: defs: (self.evalModules {
            modules = modules ++ map (d: if isAttrs d.value then { _file = d.file; config = d.value; } else d.value) defs;
            prefix = loc;
            specialArgs.name = self.last loc;
          }).config;
          getSubOptions = at: (self.evalModules { inherit modules; prefix = at; specialArgs.name = "<name>"; }).options;
        };
    };

    evalModules = { modules, specialArgs ? { }, prefix ? [ ] }:
      let
        load = file: m:
          if isPath m || isString m then load (toString m) (import m)
          else if isFunction m then load file (m (specialArgs // { lib = self; inherit config options; }))
          else concatMap (load file) (m.imports or [ ]) ++ [ {
            file = m._file or file;
            options = m.options or { };
            freeformType = m.freeformType or null;
            config = if m ? config || m ? options then m.config or { } else removeAttrs m [ "imports" "_file" "meta" "freeformType" ];
          } ];
        loaded = concatMap (load "<unknown-file>") modules;
        freeform = self.findFirst (t: t != null) null (map (m: m.freeformType) loaded);
        declare = zipAttrsWith (_: found:
          if !self.isOption (head found) then declare found
          else if length found > 1 then throw "an option is declared twice" else head found);
        evaluated = evaluate prefix (declare (map (m: m.options) loaded)) (concatMap pushDown (map (m: { inherit (m) file; value = m.config; }) loaded));
        evaluate = loc: declared: defs:
          let
            known = mapAttrs
              (name: o:
                let given = concatMap (d: self.optional (d ? ${name}) d.${name}) defs; here = loc ++ [ name ]; in
                if self.isOption o then
                  let
                    default = if o ? default then [ { file = "default"; value = self.mkOverride 1500 o.default; } ] else [ ];
                    merged = self.mergeDefinitions here o.type (default ++ given);
                  in
                  { option = o // { loc = here; }; value = (o.apply or self.id) merged.mergedValue; }
                else
                  let below = evaluate here o (concatMap pushDown given); in { option = below.options; value = below.config; })
              declared;
            strangers = map (d: removeAttrs d (attrNames declared)) defs;
            free = (freeform.merge loc (map (s: { file = "freeform"; value = mapAttrs (_: d: d.value) s; }) strangers));
            undeclared = concatMap (s: filter (n: discharge s.${n}.value != [ ]) (attrNames s)) strangers;
          in
          {
            options = mapAttrs (_: k: k.option) known;
            config = (if freeform != null && loc == prefix then free
              else if undeclared != [ ] then throw "The option `${self.showOption (loc ++ [ (head undeclared) ])}' does not exist."
              else { }) // mapAttrs (_: k: k.value) known;
          };
        inherit (evaluated) config options;
      in
      { inherit config options; };

    optionAttrSetToDocList = options: concatMap
      (o: if !self.isOption o then self.optionAttrSetToDocList o else
        [ { name = self.showOption o.loc; type = o.type.description; description = o.description or null; visible = o.visible or true; } ]
        ++ self.optionals (o.visible or true == true) (self.optionAttrSetToDocList (o.type.getSubOptions o.loc)))
      (attrValues options);
  };

  # mkIf and mkMerge taken off; what an mkIf leaves out is no definition.
  discharge = v: {
    "if" = if v.condition then discharge v.content else [ ];
    merge = concatMap discharge v.contents;
    override = map (content: v // { inherit content; }) (discharge v.content);
    order = map (content: v // { inherit content; }) (discharge v.content);
  }.${if isAttrs v then v._type or "" else ""} or [ v ];

  # Definitions of a table as tables of definitions, with the properties around it around each of its values.
  pushDown = d:
    let around = wrap: map (mapAttrs (_: x: x // { value = wrap x.value; })) (pushDown (d // { value = d.value.content; })); in
    {
      "if" = around (content: { _type = "if"; inherit (d.value) condition; inherit content; });
      override = around (content: { _type = "override"; inherit (d.value) priority; inherit content; });
      order = around (content: { _type = "order"; inherit (d.value) priority; inherit content; });
      merge = concatMap (content: pushDown (d // { value = content; })) d.value.contents;
    }.${d.value._type or ""} or [ (mapAttrs (_: value: { inherit (d) file; inherit value; }) d.value) ];

  show = v: if isFunction v then "<function>" else if isPath v then toString v else if v ? outPath then "<package>" else toJSON v;

  lib = make lib;
in
lib
