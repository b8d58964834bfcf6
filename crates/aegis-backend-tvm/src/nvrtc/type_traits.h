// The questions about types that TVM's kernels ask, for a compiler that comes without the headers of a toolkit.
#pragma once
namespace cuda {
namespace std {
template <bool Answer> struct answer { static constexpr bool value = Answer; };

template <class A, class B> struct is_same : answer<false> {};
template <class A> struct is_same<A, A> : answer<true> {};
template <class A, class B> constexpr bool is_same_v = is_same<A, B>::value;

template <class T, class... Among> struct is_among : answer<(is_same<T, Among>::value || ...)> {};

template <class T> struct is_floating_point : is_among<T, float, double> {};
template <class T>
struct is_signed
    : is_among<T, signed char, short, int, long, long long, float, double> {};
template <class T>
struct is_unsigned
    : is_among<T, bool, unsigned char, unsigned short, unsigned int, unsigned long, unsigned long long> {};
template <class T>
struct is_integral
    : answer<(is_unsigned<T>::value || is_signed<T>::value || is_same<T, char>::value) &&
             !is_floating_point<T>::value> {};

template <bool Condition, class T = void> struct enable_if {};
template <class T> struct enable_if<true, T> { using type = T; };

template <bool Condition, class Then, class Else> struct conditional { using type = Then; };
template <class Then, class Else> struct conditional<false, Then, Else> { using type = Else; };
}
}
