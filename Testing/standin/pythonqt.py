"""PythonQt's view of a Qt object, on PySide6: a proxy whose attributes are the Qt properties.

Every class of PySide6 gets a proxy class on demand. Properties are read and written as attributes,
so calling one raises; other methods, isVisible() among them, stay methods; unknown names raise.
A class derived in Python gets a hidden PySide6 subclass that passes virtual calls on to it.
"""

# ruff: noqa: N802 (Qt's names)

from __future__ import annotations

import enum
import functools
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import shiboken6
from PySide6 import QtCore

from . import errors, signals
from .calls import EnumValue, call, needs_object

# Methods added to the proxy of a PySide6 class by its name: filled by the modules that need it.
EXTRA: dict[str, dict[str, Any]] = {}
# Names of Qt 6 that Qt 5 lacks.
HIDDEN = {
    "QSinglePointEvent": {"position", "scenePosition", "globalPosition"},
    "QObject": {"connect", "disconnect", "emit", "receivers", "sender"},
}
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})


def wrap(value: Any) -> Any:
    """What PythonQt shows for a value of PySide6: proxies, ints for enums, tuples for lists."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, enum.Enum):
        return EnumValue(value)
    if isinstance(value, shiboken6.Object):
        return _proxy_of(value)
    if isinstance(value, list | tuple):
        return tuple(map(wrap, value))
    if isinstance(value, dict):
        return {key: wrap(item) for key, item in value.items()}
    return value


def unwrap(value: Any) -> Any:
    """The reverse of `wrap`, except that enums stay marked ints for `call` to decide upon."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Proxy):
        return raw_of(value)
    if isinstance(value, list | tuple):
        return [unwrap(item) for item in value]
    if isinstance(value, types.FunctionType | types.MethodType | functools.partial):
        return signals.guarded(value, wrap)
    return value


def raw_of(proxy: Proxy) -> Any:
    """The PySide6 object; ValueError if Qt has destroyed it."""
    raw = proxy.__dict__.get("_raw")
    if raw is None:
        raise RuntimeError(f"{type(proxy).__name__}: the base class's __init__ was not called")
    if not shiboken6.isValid(raw):
        raise ValueError(f"Trying to use a destroyed {type(proxy).__name__} object")
    return raw


class Method:
    """A method of a PySide6 class, called with the implementation of that very class."""

    def __init__(self, owner: type, name: str) -> None:
        self.__name__ = name
        self.owner = owner
        member = vars(owner)[name]
        self.static = not callable(member) or isinstance(member, staticmethod)
        self.python = isinstance(member, types.FunctionType)
        self.function = getattr(owner, name)

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None or (self.static and not needs_object(self.function)):
            return self
        return types.MethodType(self, instance)

    def __call__(self, *arguments: Any) -> Any:
        dual = self.static and needs_object(self.function)
        if dual and arguments and isinstance(arguments[0], proxy_class(self.owner)):
            # PySide6 tells the two apart by the object alone.
            own, *others = map(unwrap, arguments)
            return wrap(getattr(own, self.__name__)(*others))
        if self.python:
            plain = (unwrap(a) if isinstance(a, Proxy) else a for a in arguments)
            return wrap(self.function(*plain))
        return wrap(call(self.function, *map(unwrap, arguments)))

    def __repr__(self) -> str:
        return f"<qt method {self.owner.__name__}.{self.__name__}>"


class Property:
    """A Qt property as an attribute. Seen on the class it is a static method of that name."""

    def __init__(self, owner: type, meta: QtCore.QMetaProperty) -> None:
        self.name = meta.name()
        self.meta = meta
        self.owner = owner
        title = self.name[0].upper() + self.name[1:]
        self.getters = (self.name, f"is{title}", f"has{title}")

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            static = vars(self.owner).get(self.name)
            if isinstance(static, staticmethod):
                return Method(self.owner, self.name)
            raise AttributeError(f"{owner.__name__}.{self.name} is a property of its objects")
        raw = raw_of(instance)
        return wrap(self._reader(_native(type(raw)))(raw))

    @functools.cache  # noqa: B019 (properties live as long as the process)
    def _reader(self, raw_class: type) -> Callable:
        """The getter of the object's own class: it may be virtual; flags cannot be read else."""
        functions = (getattr(raw_class, getter, None) for getter in self.getters)
        for function in functions:
            if isinstance(function, types.MethodDescriptorType):
                return function
            if isinstance(function, types.BuiltinFunctionType):
                return lambda raw, static=function: static()
        return self.meta.read

    def __set__(self, instance: Any, value: Any) -> None:
        raw = raw_of(instance)
        if not self.meta.isWritable():
            raise AttributeError(
                f"Property '{self.name}' of {type(instance).__name__} object is not writable"
            )
        plain = int(value) if isinstance(value, EnumValue) else unwrap(value)
        if not self._accepts(value) or not self.meta.write(raw, plain):
            raise AttributeError(
                f"Property '{self.name}' of type '{self.meta.typeName()}' does not accept an "
                f"object of type {type(value).__name__} ({value!r})"
            )

    def _accepts(self, value: Any) -> bool:
        """PythonQt's conversions, without the doubtful ones (numbers as text, float as int)."""
        expected = self.meta.typeName()
        if value is None:
            return False
        if expected == "QString":
            return isinstance(value, str)
        if expected in ("bool", "int", "uint"):
            return isinstance(value, int)
        if expected in ("double", "float"):
            return isinstance(value, int | float)
        if expected == "QStringList":
            return isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
        return True


class Signal:
    """A signal as an attribute of an object."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else BoundSignal(instance, self.name)


class BoundSignal:
    """`w.clicked`: connect, disconnect, emit; calling it emits."""

    def __init__(self, proxy: Proxy, name: str) -> None:
        self._proxy = proxy
        self._name = name

    def _signature(self) -> str:
        return _signals(self._proxy).first(self._name)

    def connect(self, function: Callable) -> bool:
        """Connect to a callable."""
        return signals.connect(raw_of(self._proxy), self._signature(), function, wrap)

    def disconnect(self, function: Callable | None = None) -> bool:
        """Disconnect one callable, or all."""
        return signals.disconnect(raw_of(self._proxy), self._signature(), function)

    def emit(self, *arguments: Any) -> None:
        """Send the signal."""
        getattr(raw_of(self._proxy), self._name).emit(
            *(a.raw if isinstance(a, EnumValue) else unwrap(a) for a in arguments)
        )

    __call__ = emit


class ProxyMeta(type):
    """Attributes of a Qt class that are no Python attributes raise with its name."""

    def __getattr__(cls, name: str) -> Any:
        raise AttributeError(f"{cls.__name__} has no attribute named '{name}'")

    def __setattr__(cls, name: str, value: Any) -> None:
        if "_raw_class" in cls.__dict__ and not name.startswith("_"):
            raise AttributeError(f"{cls.__name__}.{name}: a C++ class cannot be changed")
        super().__setattr__(name, value)


class Proxy(metaclass=ProxyMeta):
    """Base of all proxies. Sets no attribute that is not there, unless derived in Python."""

    _raw_class: type | None = None

    def __init__(self, *arguments: Any) -> None:
        cls = type(self)
        if cls._raw_class is None or cls._raw_class is QtCore.Qt:
            raise TypeError(f"{cls.__name__} has no objects")
        derived = "_raw_class" not in cls.__dict__
        raw = call(_shell(cls) if derived else cls._raw_class, *map(unwrap, arguments))
        self.__dict__["_raw"] = raw
        # State of a derived object must live as long as the Qt object; else PythonQt's wrappers
        # come and go.
        raw._standin_proxy = (lambda: self) if derived else weakref.ref(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raw = raw_of(self)
        if isinstance(raw, QtCore.QObject):
            if name.encode() in [n.data() for n in raw.dynamicPropertyNames()]:
                return wrap(raw.property(name))
            for child in raw.children():
                if child.objectName() == name:
                    return wrap(child)
        raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        known = _lookup(_native_class(type(self)), name)
        if isinstance(known, Property):
            known.__set__(self, value)
            return
        if known is not None:
            raise AttributeError(f"'{name}' can not be overwritten on {type(self).__name__} object")
        if "_raw_class" not in type(self).__dict__:
            super().__setattr__(name, value)
            return
        raw = raw_of(self)
        if isinstance(raw, QtCore.QObject) and name.encode() in [
            n.data() for n in raw.dynamicPropertyNames()
        ]:
            raw.setProperty(name, unwrap(value))
            return
        raise AttributeError(
            f"'{name}' does not exist on {type(self).__name__} and creating new attributes on "
            "C++ objects is not allowed"
        )

    def __bool__(self) -> bool:
        raw = self.__dict__.get("_raw")
        return raw is not None and shiboken6.isValid(raw)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Proxy):
            return False
        mine, others = self.__dict__.get("_raw"), other.__dict__.get("_raw")
        return mine is others or (not isinstance(mine, QtCore.QObject) and bool(mine == others))

    def __hash__(self) -> int:
        return hash(shiboken6.getCppPointer(raw_of(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__} ({self.__dict__.get('_raw')!r})"

    def className(self) -> str:
        """The class's name."""
        return type(self).__name__

    def delete(self) -> None:
        """Destroy the C++ object at once."""
        shiboken6.delete(raw_of(self))


def _operator(name: str) -> Callable:
    """An arithmetic or comparison operator of a value class."""

    def method(self: Proxy, *others: Any) -> Any:
        function = getattr(type(raw_of(self)), name, None)
        if function is None:
            return NotImplemented
        result = function(raw_of(self), *map(unwrap, others))
        return NotImplemented if result is NotImplemented else wrap(result)

    return method


for _name in ("add", "sub", "mul", "truediv", "neg", "and", "or", "lt", "le", "gt", "ge"):
    setattr(Proxy, f"__{_name}__", _operator(f"__{_name}__"))


@functools.cache
def proxy_class(raw_class: type) -> type[Proxy]:
    """The proxy class of a class of PySide6, or of one of ours derived from it."""
    bases = tuple(
        proxy_class(base)
        for base in raw_class.__bases__
        if issubclass(base, shiboken6.Object) and base is not shiboken6.Object
    )
    namespace = dict(_members(raw_class))
    namespace.update(EXTRA.get(raw_class.__name__, {}))
    namespace["_raw_class"] = raw_class
    namespace["__module__"] = "qt"
    return ProxyMeta(raw_class.__name__, bases or (Proxy,), namespace)


def _members(raw_class: type) -> Iterable[tuple[str, Any]]:
    """What PythonQt shows of a class itself: methods, enum values, signals, properties."""
    hidden = HIDDEN.get(raw_class.__name__, set()) | _property_names(raw_class)
    for name, member in vars(raw_class).items():
        if name.startswith("_") or name in hidden:
            continue
        if isinstance(member, type):
            if issubclass(member, enum.Enum):
                for key, value in member.__members__.items():
                    yield key, EnumValue(value)
            elif issubclass(member, shiboken6.Object):
                yield name, proxy_class(member)
        elif isinstance(member, int):
            yield name, member
        elif callable(member) and not isinstance(member, QtCore.Signal | QtCore.Property):
            yield name, Method(raw_class, name)
    for p in _properties(raw_class):
        yield p.name, p
    if issubclass(raw_class, QtCore.QObject):
        for name in _signals_of(raw_class).names():
            if name in vars(raw_class):
                yield name, Signal(name)


def _property_names(raw_class: type) -> set[str]:
    """The properties, own or inherited, of a class: methods of these names are not seen."""
    if not issubclass(raw_class, QtCore.QObject):
        return set()
    meta = raw_class.staticMetaObject
    return {meta.property(index).name() for index in range(meta.propertyCount())}


@functools.cache
def _properties(raw_class: type) -> list[Property]:
    """The properties a class itself adds, and `name`, PythonQt's name for objectName."""
    if not issubclass(raw_class, QtCore.QObject):
        return []
    meta = raw_class.staticMetaObject
    own = [
        Property(raw_class, meta.property(index))
        for index in range(meta.propertyOffset(), meta.propertyCount())
    ]
    if raw_class is QtCore.QObject:
        alias = Property(raw_class, meta.property(meta.indexOfProperty("objectName")))
        alias.name = "name"
        own.append(alias)
    return own


@functools.cache
def _signals_of(raw_class: type) -> signals.Signals:
    return signals.Signals(raw_class)


def _signals(proxy: Proxy) -> signals.Signals:
    return _signals_of(_native_class(type(proxy))._raw_class)


def _native_class(cls: type) -> type:
    """The nearest class that stands for a C++ class."""
    return next(c for c in cls.__mro__ if "_raw_class" in c.__dict__)


def _native(raw_class: type) -> type:
    """The class of an object of PySide6 without the shell for overrides."""
    return raw_class.__bases__[0] if "_standin_shell" in vars(raw_class) else raw_class


def _lookup(cls: type, name: str) -> Any:
    return next((c.__dict__[name] for c in cls.__mro__ if name in c.__dict__), None)


def _proxy_of(raw: Any) -> Proxy:
    """The proxy of an object, the same one as long as it is in use."""
    known = getattr(raw, "_standin_proxy", None)
    proxy = known() if known else None
    if proxy is None:
        raw_class = _native(type(raw))
        proxy = Proxy.__new__(proxy_class(raw_class))
        proxy.__dict__["_raw"] = raw
        raw._standin_proxy = weakref.ref(proxy)
    return proxy


@functools.cache
def _shell(cls: type[Proxy]) -> type:
    """The PySide6 class behind a class derived in Python: its overrides are called by Qt."""
    native = _native_class(cls)
    raw_class = native._raw_class
    derived = cls.__mro__[: cls.__mro__.index(native)]
    names = {
        name
        for base in derived
        for name, member in vars(base).items()
        if isinstance(member, types.FunctionType) and not name.startswith("_")
    }
    namespace: dict[str, Any] = {
        name: _override(raw_class, name) for name in names if hasattr(raw_class, name)
    }
    namespace["_standin_shell"] = True
    return type(raw_class)(cls.__name__, (raw_class,), namespace)


def _override(raw_class: type, name: str) -> Callable:
    """A virtual method that calls the proxy's; its exceptions are kept for the test."""

    def method(self: Any, *arguments: Any) -> Any:
        known = getattr(self, "_standin_proxy", None)
        if known is not None:
            try:
                result = getattr(known(), name)(*map(wrap, arguments))
                return result.raw if isinstance(result, EnumValue) else unwrap(result)
            except Exception as error:
                errors.record(error)
        return getattr(raw_class, name)(self, *arguments)

    return method


def _connect(self: Proxy, signature: str, receiver: Any, slot: str | None = None) -> bool:
    """`w.connect(signal, callable)`, or with a receiver and the slot's signature."""
    if slot is not None:
        receiver = getattr(receiver, slot.partition("(")[0])
    raw = raw_of(self)
    return signals.connect(raw, _signals(self).raw(signature), receiver, wrap)


def _disconnect(self: Proxy, signature: str, function: Callable | None = None) -> bool:
    """`w.disconnect(signal, callable)`, or all of a signal."""
    return signals.disconnect(raw_of(self), _signals(self).raw(signature), function)


def _find_children(self: Proxy, kind: Any = None, name: str | None = None) -> tuple:
    """All descendants of a class (given itself or by name) and of a name."""
    found = raw_of(self).findChildren(QtCore.QObject)
    if name is not None:
        found = [child for child in found if child.objectName() == name]
    if isinstance(kind, str):
        found = [child for child in found if child.inherits(kind)]
    elif kind is not None:
        found = [child for child in found if isinstance(wrap(child), kind)]
    return wrap(found)


def _find_child(self: Proxy, kind: Any, name: str | None = None) -> Any:
    """The first of `findChildren`, or None."""
    return next(iter(_find_children(self, kind, name)), None)


EXTRA["QObject"] = {
    "connect": _connect,
    "disconnect": _disconnect,
    "findChildren": _find_children,
    "findChild": _find_child,
}
