# JSON Schema to options: nixos/schema.json is read at evaluation, so no option of an inventory or of opencode.json is
# written by hand. What the `x-` keywords mean: internal/instance/schema.go and internal/nixoptions.
#
#   typeOf SCHEMA         the type of a value
#   module SCHEMA         the options of a table, as a module for types.submodule
#   serialise SCHEMA V    the value of such options, as the inventory has it: its keys, and only what was set
#
# An option that nothing sets is null: opencoded merges [defaults] and fills in the rest, and could not tell a default
# from a choice otherwise. `defaultText` documents what holds then.
{ lib, schema }:
let
  inherit (lib) types;
  inherit (builtins) elem filter head isAttrs isList;

  lookup = ref: lib.attrByPath (lib.tail (lib.splitString "/" ref)) (throw "nixos/schema.json: nothing is at ${ref}") schema;
  deref = s: if s ? "$ref" then deref (lookup s."$ref") // removeAttrs s [ "$ref" ] else s;

  # Where opencode fills in {env:NAME} and {file:PATH} when it starts, such a string fits whatever is wanted.
  reference = lib.mkOptionType {
    name = "reference";
    description = "reference ({env:NAME} or {file:PATH})";
    check = v: builtins.isString v && builtins.match ".*[{](env|file):.*" v != null;
    merge = lib.mergeEqualOption;
  };
  filledIn = context: t: if context.references then types.either t reference else t;

  json = types.nullOr (types.oneOf [ types.bool types.int types.float types.str (types.attrsOf json) (types.listOf json) ])
    // { description = "JSON value"; };

  # A file of the host whose content is a secret. A path literal would be copied into the store, for all to read.
  secretFile = types.addCheck types.str (v: builtins.match "-?/.*" v != null && !lib.hasPrefix builtins.storeDir (lib.removePrefix "-" v))
    // { description = "absolute path of a file outside of the Nix store, written as a string"; };

  # Rules of which the last that matches wins. An attribute set has no order: of two patterns the one with the shorter
  # text before its first wildcard comes first, as the more general; a list of single rules says it otherwise.
  ordered = element:
    let
      prefix = name: head (builtins.match "([^*?]*).*" name);
      before = a: b: if prefix a == prefix b then a < b else prefix a < prefix b;
      single = r: isAttrs r && builtins.length (builtins.attrNames r) == 1;
      rules = file: v:
        if isList v then lib.concatMap (rules file) v
        else map (name: { inherit file name; value = v.${name}; }) (lib.sort before (builtins.attrNames v));
    in
    lib.mkOptionType {
      name = "ordered";
      description = "attribute set, or list of single rules, of ${element.description}";
      check = v: isAttrs v || (isList v && lib.all single v);
      merge = loc: defs:
        let
          all = lib.concatMap (d: rules d.file d.value) defs;
          # A rule that is given again keeps its place, as in merged layers.
          names = lib.unique (map (r: r.name) all);
          merged = name: lib.mergeDefinitions (loc ++ [ name ]) element (filter (r: r.name == name) all);
        in
        {
          _type = "ordered";
          rules = lib.concatMap (name: lib.optional (merged name).isDefined { inherit name; value = (merged name).mergedValue; }) names;
        };
      getSubOptions = at: element.getSubOptions (at ++ [ "<name>" ]);
      nestedTypes.elemType = element;
    };

  # types.either commits to the first type whose check passes, and any attribute set passes a submodule's: scalars come
  # first, and of several kinds of tables none is told apart here.
  union = context: alternatives:
    let
      isTable = a: let s = deref a; in s.type or null == "object";
      sorted = lib.partition isTable alternatives;
      all = map (typeOf context) (sorted.wrong ++ sorted.right);
    in
    if builtins.length sorted.right > 1 then json else if builtins.length all == 1 then head all else types.oneOf all;
  flat = a: let s = deref a; in if s ? anyOf || s ? oneOf then lib.concatMap flat (s.anyOf or s.oneOf) else [ a ];

  integer = s:
    let low = s.minimum or (if s ? exclusiveMinimum then s.exclusiveMinimum + 1 else null); in
    if low != null && s ? maximum then types.ints.between low s.maximum
    else if low == 0 then types.ints.unsigned
    else if low == 1 then types.ints.positive
    else types.int;
  number = s:
    if s ? minimum && s ? maximum then types.numbers.between s.minimum s.maximum
    else if s ? minimum && s.minimum >= 0 then types.numbers.nonnegative
    else types.number;
  string = s:
    if s ? x-secret then secretFile
    else if s ? x-file then types.path
    else if s ? x-nix-pattern then types.strMatching s.x-nix-pattern
    else types.str;
  table = context: s:
    let more = s.additionalProperties or { }; element = if isAttrs more then typeOf context more else json; in
    if s ? x-ordered then ordered element
    else if s ? properties then types.submodule (moduleOf context s)
    else types.attrsOf element;

  typeOf = context: raw:
    let
      s = deref raw;
      within = {
        references = context.references || s.x-references or false;
        seen = context.seen ++ lib.optional (raw ? "$ref") raw."$ref";
      };
    in
    if s ? anyOf || s ? oneOf then union within (flat s)
    else if s ? const then filledIn within (types.enum [ s.const ])
    else if s ? enum then filledIn within (types.enum s.enum)
    else {
      string = if s ? x-nix-pattern then filledIn within (string s) else string s;
      boolean = filledIn within types.bool;
      integer = filledIn within (integer s);
      number = filledIn within (number s);
      array = types.listOf (if s ? items then typeOf within s.items else json);
      object = table within s;
    }.${s.type or "any"} or json;

  # Definitions that are reached without naming another option: where one comes round again, documentation has to end.
  reached = s: if s ? "$ref" then [ s."$ref" ] ++ reached (deref s) else
    lib.concatMap reached ((s.anyOf or [ ]) ++ (s.oneOf or [ ]) ++ filter isAttrs [ (s.items or null) (s.additionalProperties or null) ]);

  moduleOf = context: s: {
    freeformType =
      let more = s.additionalProperties or { }; in
      if more == false then null else types.attrsOf (if isAttrs more then typeOf context more else json);
    options = lib.mapAttrs' (key: raw: lib.nameValuePair (raw.x-nix-name or key) (option context s key raw)) s.properties;
  };

  option = context: parent: key: raw:
    let
      s = deref raw;
      t = typeOf context raw;
      required = elem key (parent.required or [ ]);
      # A table that requires a key is not there by itself.
      isTable = s ? properties && !(s ? x-ordered || s ? required);
    in
    lib.mkOption (
      {
        type = if required || isTable then t else types.nullOr t;
        description = s.description or "The key `${key}` of opencode.json; see docs/options.md.";
      }
      // lib.optionalAttrs (!required) { default = if isTable then { } else null; }
      // lib.optionalAttrs (s ? default) { defaultText = lib.literalExpression (lib.generators.toPretty { } s.default); }
      // lib.optionalAttrs (s ? x-default) { defaultText = lib.literalMD s.x-default; }
      // lib.optionalAttrs (s ? x-alias-of) { visible = false; }
      // lib.optionalAttrs (lib.any (r: elem r context.seen) (reached raw)) { visible = "shallow"; }
    );

  # Values of any other kind: what is null, or a table of nothing but nulls, was not set.
  strip = v:
    if isList v then map strip v
    else if !isAttrs v || v ? outPath then v
    else if v._type or "" == "ordered" then v // { rules = map (r: r // { value = strip r.value; }) v.rules; }
    else lib.mapAttrs (_: strip) (lib.filterAttrs (_: x: x != null && !hollow x) v);
  hollow = x: isAttrs x && x != { } && !(x ? outPath || x ? _type) && lib.all (y: y == null || hollow y) (builtins.attrValues x);

  serialise = raw: v:
    let
      s = deref raw;
      known = lib.filterAttrs (_: x: x != null && x != { })
        (lib.mapAttrs (key: p: serialise p (v.${p.x-nix-name or key} or null)) s.properties);
      names = lib.mapAttrsToList (key: p: p.x-nix-name or key) s.properties;
    in
    if v == null then null
    else if s ? x-references then strip v
    else if s ? properties && isAttrs v then known // lib.optionalAttrs (s.additionalProperties or true != false) (strip (removeAttrs v names))
    else strip v;

  outermost = { references = false; seen = [ ]; };
in
{
  inherit deref serialise;
  typeOf = typeOf outermost;
  module = raw: moduleOf (outermost // { references = (deref raw).x-references or false; }) (deref raw);
}
